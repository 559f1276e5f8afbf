#include "agent/kafka/mock_cluster.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "agent/kafka/client.h"
#include "agent/kafka/template.h"
#include "agent/kafka/topics.h"

namespace penstock {

struct MockCluster::Inside {
  Client client;  // only to own the cluster's thread
  rd_kafka_mock_cluster_t* cluster = nullptr;
  int brokers = 0;

  ~Inside() {
    if (cluster != nullptr) rd_kafka_mock_cluster_destroy(cluster);
  }
};

MockCluster::MockCluster(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}
MockCluster::~MockCluster() = default;

Result<std::unique_ptr<MockCluster>> MockCluster::start(int brokers) {
  auto inside = std::make_unique<Inside>();
  char wrong[256] = "";
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  rd_kafka_conf_set(conf, "log_level", "0", wrong, sizeof wrong);  // it would complain that it has no brokers
  inside->client.reset(rd_kafka_new(RD_KAFKA_PRODUCER, conf, wrong, sizeof wrong));
  if (!inside->client) {
    rd_kafka_conf_destroy(conf);
    return rejected(std::string("mock cluster: ") + wrong);
  }
  inside->cluster = rd_kafka_mock_cluster_new(inside->client.get(), brokers);
  inside->brokers = brokers;
  if (inside->cluster == nullptr) return rejected("mock cluster: no port could be opened on 127.0.0.1");
  std::unique_ptr<MockCluster> cluster(new MockCluster(std::move(inside)));
  cluster->create_topic(kCheckpointTopic, kCheckpointPartitions);
  cluster->create_topic(kGapTopic, 1);
  return cluster;
}

std::string MockCluster::bootstrap() const { return rd_kafka_mock_cluster_bootstraps(inside_->cluster); }

void MockCluster::create_topic(const std::string& name, int partitions) {
  rd_kafka_mock_topic_create(inside_->cluster, name.c_str(), partitions, inside_->brokers);
}

void MockCluster::set_down(int broker) { rd_kafka_mock_broker_set_down(inside_->cluster, broker); }
void MockCluster::set_up(int broker) { rd_kafka_mock_broker_set_up(inside_->cluster, broker); }
void MockCluster::set_round_trip(int broker, int milliseconds) {
  rd_kafka_mock_broker_set_rtt(inside_->cluster, broker, milliseconds);
}

void MockCluster::fail_next(Request request, const std::vector<int>& errors) {
  std::vector<rd_kafka_resp_err_t> all;
  for (int error : errors) all.push_back(static_cast<rd_kafka_resp_err_t>(error));
  rd_kafka_mock_push_request_errors_array(inside_->cluster, static_cast<std::int16_t>(request), all.size(), all.data());
}

}  // namespace penstock
