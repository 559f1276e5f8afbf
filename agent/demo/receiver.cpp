#include "agent/demo/receiver.h"

#include <charconv>
#include <utility>

#include "agent/demo/tap.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

std::optional<std::uint64_t> number_in(std::string_view text) {
  std::uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return 0;  // no number is 0: unknown
  return number;
}

/// The driver in ce_source, `/penstock/<agent>/<driver>`.
std::string_view driver_in(std::string_view source) {
  auto slash = source.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : source.substr(slash + 1);
}

}  // namespace

void book(const SeenRecord& record, Account& account) {
  std::optional<std::uint64_t> number;
  std::string_view driver, stream, content_type;
  for (const auto& header : record.headers) {
    if (header.name == kNumberHeader) number = number_in(header.value);
    if (header.name == "ce_source") driver = driver_in(header.value);
    if (header.name == "ce_subject") stream = header.value;
    if (header.name == "content-type") content_type = header.value;
  }
  if (!record.name) return account.arrive_nameless();
  const auto& name = *record.name;
  account.arrive({record.topic, record.partition, name.agent, name.epoch, name.lane, name.sequence, number,
                  checksum_of(driver, stream, content_type, record.value)});
}

Receiver::Receiver(std::unique_ptr<TopicReader> reader, Account& account, OnTheWay on_the_way)
    : reader_(std::move(reader)),
      account_(account),
      on_the_way_(std::move(on_the_way)),
      thread_([this](std::stop_token stop) { run(stop); }) {}

void Receiver::ask_for_end() { ++asked_; }

void Receiver::run(std::stop_token stop) {
  auto hand_on = [this](const SeenRecord& record) { book(record, account_); };
  auto take = [&](const SeenRecord& record) { on_the_way_ ? on_the_way_(record, hand_on) : hand_on(record); };
  while (!stop.stop_requested()) {
    reader_->read(100ms, take);
    std::uint64_t asked = asked_;
    if (asked == answer_ || asked == 1) continue;  // 1: nobody has asked yet
    auto at_end = reader_->at_end(500ms);
    if (at_end && *at_end) answer_ = asked;
  }
}

}  // namespace penstock
