// MockCluster: librdkafka's own imitation of a Kafka cluster, in this process, for `demo` and for tests of what it can
// show. It keeps records and takes transactions, but knows neither abort nor read_committed nor fencing, and keeps only
// 5 MB of a partition: it is no proof of exactly once.
//
// Any thread. Everything is gone when it ends; clients must end before.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/result.h"

namespace penstock {

class MockCluster {
 public:
  /// Listens on free ports of 127.0.0.1, with our own two topics made.
  static Result<std::unique_ptr<MockCluster>> start(int brokers = 1);
  ~MockCluster();

  /// "host:port,host:port"
  std::string bootstrap() const;
  void create_topic(const std::string& name, int partitions);

  /// Brokers are numbered from 1. A broker that is down closes its connections and refuses new ones.
  void set_down(int broker);
  void set_up(int broker);
  /// Every answer of the broker comes so much later.
  void set_round_trip(int broker, int milliseconds);
  /// The next requests of this kind are answered with these errors (numbers of Kafka's protocol).
  enum class Request { produce = 0, init_producer_id = 22, add_partitions = 24, end_transaction = 26 };
  void fail_next(Request request, const std::vector<int>& errors);

 private:
  struct Inside;
  explicit MockCluster(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

}  // namespace penstock
