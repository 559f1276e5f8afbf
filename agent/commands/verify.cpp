// `penstock verify`: the consumer's proof. 0: everything up to the checkpoints is accounted for; 2: it is not; 1: no proof
// could be made.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/commands/command.h"
#include "agent/kafka/verify_cluster.h"

namespace penstock {
namespace {

struct VerifyOptions {
  std::vector<std::string> brokers, topics, properties, agents, lanes;
  double timeout_seconds = 300;
  Delivery delivery = Delivery::exactly_once;
  bool json = false;
};

std::string range_text(const SequenceBitmap::Range& range) {
  if (range.first == range.second) return fmt::format("{}", range.first.value());
  return fmt::format("{}-{}", range.first.value(), range.second.value());
}

nlohmann::json lane_json(const LaneProof& lane) {
  nlohmann::json ranges = nlohmann::json::array();
  for (const auto& range : lane.missing_ranges) ranges.push_back({range.first.value(), range.second.value()});
  nlohmann::json json = {{"agent", lane.agent},
                         {"epoch", lane.epoch.hex()},
                         {"lane", lane.lane},
                         {"holds", lane.holds()},
                         {"from", lane.from.value()},
                         {"checkpoint", nullptr},
                         {"first_seen", lane.first_seen.value()},
                         {"last_seen", lane.last_seen.value()},
                         {"records", lane.records},
                         {"missing", lane.missing},
                         {"missing_ranges", std::move(ranges)},
                         {"doubled", lane.doubled},
                         {"out_of_order", lane.out_of_order},
                         {"repeated", lane.repeated},
                         {"given_up", lane.given_up},
                         {"never_numbered", lane.never_numbered},
                         {"contradicted", lane.contradicted},
                         {"above_checkpoint", lane.above}};
  if (lane.checkpoint) json["checkpoint"] = lane.checkpoint->value();
  return json;
}

void print_json(const ClusterProof& proof) {
  nlohmann::json lanes = nlohmann::json::array();
  for (const auto& lane : proof.lanes) lanes.push_back(lane_json(lane));
  nlohmann::json json = {{"holds", proof.holds()},
                         {"lanes", std::move(lanes)},
                         {"foreign_records", proof.foreign},
                         {"agents_without_checkpoint", proof.without_checkpoint}};
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

void print_text(const ClusterProof& proof) {
  for (const auto& lane : proof.lanes) {
    fmt::print("{} {} {}: {} records, {} to {}", lane.agent, lane.epoch.hex().substr(0, 8), lane.lane, lane.records,
               lane.first_seen.value(), lane.last_seen.value());
    if (lane.checkpoint) fmt::print(", checkpoint {}", lane.checkpoint->value());
    fmt::print(": {} missing, {} doubled, {} out of order", lane.missing, lane.doubled, lane.out_of_order);
    if (lane.repeated != 0) fmt::print(", {} repeated, which readers skip", lane.repeated);
    if (lane.given_up != 0) fmt::print(", {} given up and accounted for", lane.given_up);
    if (lane.never_numbered != 0) fmt::print(", {} refused before they had a number", lane.never_numbered);
    if (lane.contradicted != 0) fmt::print(", {} given up although they are there", lane.contradicted);
    if (lane.above != 0) fmt::print(", {} newer than the checkpoint", lane.above);
    fmt::print("\n");
    if (lane.missing == 0) continue;
    std::string text;
    for (const auto& range : lane.missing_ranges) text += (text.empty() ? "" : ", ") + range_text(range);
    std::uint64_t shown = 0;
    for (const auto& range : lane.missing_ranges) shown += count_between(range.first, range.second);
    fmt::print("  missing: {}{}\n", text, shown < lane.missing ? ", ..." : "");
  }
  for (const auto& agent : proof.without_checkpoint) fmt::print("{}: no checkpoint, nothing can be proved\n", agent);
  if (proof.foreign != 0) fmt::print("{} records are not Penstock's\n", proof.foreign);
  fmt::print("{}\n", proof.holds()         ? "the proof holds: everything up to the checkpoints is accounted for"
                     : proof.lanes.empty() ? "nothing to prove: no record of ours and no checkpoint"
                                           : "the proof does not hold");
}

int run_verify(const VerifyOptions& options) {
  VerifySettings settings;
  settings.kafka.brokers = options.brokers;
  settings.topics = options.topics;
  settings.agents = options.agents;
  settings.lanes = options.lanes;
  settings.delivery = options.delivery;
  for (const auto& property : options.properties) {
    auto equals = property.find('=');
    if (equals == std::string::npos || equals == 0) {
      fmt::print(stderr, "penstock verify: --property {}: expected NAME=VALUE\n", property);
      return kUsage;
    }
    settings.kafka.properties[property.substr(0, equals)] = property.substr(equals + 1);
  }
  auto patience = Patience(std::chrono::milliseconds(static_cast<std::int64_t>(options.timeout_seconds * 1000)), {});
  auto proof = verify_cluster(settings, patience);
  if (!proof) {
    fmt::print(stderr, "penstock verify: no proof could be made: {}\n", proof.error().what);
    return kFailed;
  }
  options.json ? print_json(*proof) : print_text(*proof);
  if (proof->holds()) return kDone;
  bool against = false;
  for (const auto& lane : proof->lanes) against = against || !lane.holds();
  return against ? kProofFailed : kFailed;
}

}  // namespace

void add_verify(CLI::App& app, int& status) {
  auto options = std::make_shared<VerifyOptions>();
  app.add_option("--brokers", options->brokers, "HOST:PORT, separated by commas")->required()->delimiter(',');
  app.add_option("--topic", options->topics,
                 "a topic that holds records, or ^ and a regular expression; may be repeated")
      ->required();
  app.add_option("--property", options->properties, "NAME=VALUE for librdkafka (TLS, SASL); may be repeated");
  app.add_option("--agent", options->agents, "judge only this agent; may be repeated");
  app.add_option("--lane", options->lanes, "judge only this lane; may be repeated");
  static const std::map<std::string, Delivery> deliveries = {{"exactly_once", Delivery::exactly_once},
                                                             {"at_least_once", Delivery::at_least_once}};
  app.add_option(
         "--delivery", options->delivery,
         "exactly_once: each record is there once (the default); at_least_once: each is taken once by a reader that "
         "skips, in a partition, every sequence not above the last it took of (agent, epoch, lane)")
      ->transform(CLI::CheckedTransformer(deliveries).description("exactly_once|at_least_once"));
  app.add_option("--timeout", options->timeout_seconds, "seconds to read it all in (300)")
      ->check(CLI::Range(1, 86'400));
  app.add_flag("--json", options->json, "the result as JSON");
  app.callback([options, &status] { status = run_verify(*options); });
}

}  // namespace penstock
