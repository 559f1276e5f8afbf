// A store in a directory of its own, with verbs, so that a case is a few lines.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "buffer/frame.h"
#include "buffer/store.h"
#include "tests/catch.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/temp_dir.h"

namespace penstock {

class StoreFixture {
 public:
  StoreFixture() {
    settings.directory = directory.path() / "queue";
    settings.agent = "gw-1";
    settings.capacity_bytes = 8 << 20;
  }

  void open() {
    store.reset();
    auto opened = Store::open(settings, clock);
    if (!opened) FAIL(opened.error().what);
    store = std::move(*opened);
    if (store->mended() && !expect_damage) FAIL(describe(*store->mended()));
  }

  /// After an orderly end.
  void reopen() { open(); }
  /// As after a kill: goes on with a copy of what the disk has now, and the old one's orderly end changes nothing in it.
  void crash() {
    auto copy = directory.path() / ("life" + std::to_string(++lives_));
    std::filesystem::copy(settings.directory, copy);
    store.reset();
    settings.directory = copy;
    open();
  }

  static Record record(std::string payload, std::string stream = "boiler/temp") {
    Record result;
    result.driver = "plant";
    result.stream = std::move(stream);
    result.payload = std::move(payload);
    return result;
  }

  Group group(std::vector<std::string> payloads, std::string lane = "telemetry") {
    Group result;
    result.lane = store->lane(lane).value();
    result.driver = "plant";
    for (auto& payload : payloads) result.records.push_back(record(std::move(payload)));
    return result;
  }

  void commit(const std::vector<Group>& groups = {}) {
    auto done = store->commit(groups);
    if (!done) FAIL(done.error().what);
  }
  void put(std::vector<std::string> payloads, std::string lane = "telemetry") {
    commit({group(std::move(payloads), std::move(lane))});
  }
  /// `count` records p<first>..., one commit for each `per_commit`.
  void put_many(std::size_t count, std::size_t per_commit = 100, std::string lane = "telemetry") {
    std::vector<std::string> payloads;
    for (std::size_t i = 0; i < count; ++i) {
      payloads.push_back(payload(++written_));
      if (payloads.size() == per_commit || i + 1 == count) put(std::exchange(payloads, {}), lane);
    }
  }
  static std::string payload(std::uint64_t number) {
    return "{\"value\":" + std::to_string(number * 7919 % 100'003) + ",\"n\":" + std::to_string(number) + "}";
  }
  Batch read(BatchLimits limits = {}) {
    auto batch = store->read(limits);
    if (!batch) FAIL(batch.error().what);
    return std::move(*batch);
  }
  std::vector<std::string> payloads(const Batch& batch) {
    std::vector<std::string> result;
    for (const auto& stored : batch.records) result.push_back(stored.record.payload);
    return result;
  }
  std::vector<std::string> read_payloads(BatchLimits limits = {}) { return payloads(read(limits)); }
  Batch deliver(BatchLimits limits = {}) {
    auto batch = read(limits);
    store->delivered(batch.after);
    return batch;
  }
  LaneStatus lane(std::string name = "telemetry") {
    for (auto& row : store->status().lanes) {
      if (row.name == name) return row;
    }
    FAIL("no lane " + name);
    return {};
  }

  /// Changes one byte of a frame of the journal.
  void damage_frame(std::uint64_t number) {
    std::fstream file(settings.directory / "journal", std::ios::binary | std::ios::in | std::ios::out);
    std::string bytes(std::filesystem::file_size(settings.directory / "journal"), '\0');
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    for (std::size_t at = 0; at < bytes.size(); at += kFrameAlignment) {
      auto header = parse_frame_header(std::string_view(bytes).substr(at));
      if (!header || header->number != number) continue;
      file.seekp(static_cast<std::streamoff>(at + header->bytes() - 1));
      file.put(static_cast<char>(bytes[at + header->bytes() - 1] ^ 0x10));
      return;
    }
    FAIL("no frame " << number);
  }

  TempDir directory;
  FakeClock clock;
  StoreSettings settings;
  std::unique_ptr<Store> store;
  bool expect_damage = false;

 private:
  std::uint64_t written_ = 0;
  int lives_ = 0;
};

}  // namespace penstock
