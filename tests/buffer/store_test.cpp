#include "tests/buffer/store_fixture.h"

namespace penstock {
namespace {
namespace store_test {

using Strings = std::vector<std::string>;

TEST_CASE("what a commit took is on disk and can be read when it returns", "[store]") {
  StoreFixture f;
  f.open();
  f.put({"a"});
  CHECK(f.store->durable().value() == 1);
  CHECK(f.read_payloads() == Strings{"a"});
  f.crash();
  CHECK(f.read_payloads() == Strings{"a"});
  f.put({"b"});
  CHECK(f.store->durable().value() == 1);  // of this life
  f.crash();
  CHECK(f.read_payloads() == Strings{"a", "b"});
}

TEST_CASE("a record comes back as it was put, with its name", "[store]") {
  StoreFixture f;
  f.open();
  Record record = f.record("payload\0with a zero");
  record.key = "k";
  record.kind = Kind::event;
  record.quality = Quality::uncertain;
  record.time_source = TimeSource::device;
  record.synchronised = true;
  record.time = WallTime(std::chrono::microseconds(1'700'000'000'123'456));
  record.boottime = BootTime(42);
  record.content_type = "application/json";
  record.headers = {{"unit", "Cel"}, {"", ""}};
  Group group{*f.store->lane("telemetry"), "plant", {record, record}, {}, {}};
  f.commit({group});
  auto batch = f.read();
  REQUIRE(batch.records.size() == 2);
  CHECK(batch.records[1].record == record);
  CHECK(batch.records[1].sequence == Sequence(2));
  CHECK(batch.records[1].epoch == f.store->status().epoch);
  CHECK(batch.records[1].boot == f.clock.boot());
  CHECK(batch.after.delivered == Positions{{"telemetry", Sequence(2)}});
  CHECK(batch.after.epoch == f.store->status().epoch);
  REQUIRE(batch.after.runs.size() == 1);
  CHECK(batch.after.runs[0].run == f.store->status().run);
  CHECK(batch.after.writer == f.store->status().run);
}

TEST_CASE("records of many commits come back in order, across blocks and restarts", "[store]") {
  StoreFixture f;
  f.open();
  f.put_many(1, 1);
  f.put_many(2'000, 100);
  f.put_many(300, 1);
  f.reopen();
  f.put_many(50, 7);
  auto batch = f.read();
  REQUIRE(batch.records.size() == 2351);
  for (std::size_t i = 0; i < batch.records.size(); ++i) {
    REQUIRE(batch.records[i].sequence == Sequence(i + 1));
    REQUIRE(batch.records[i].record.payload == f.payload(i + 1));
  }
}

TEST_CASE("what is delivered is not read again and leaves the disk with a later commit", "[store]") {
  StoreFixture f;
  f.settings.journal_bytes = 64 << 10;
  f.open();
  f.put_many(5'000, 500);
  auto used = f.store->status().used_pages;
  BatchLimits limits;
  limits.records = 3'000;
  f.deliver(limits);
  CHECK(f.store->wants_commit());
  auto batch = f.read();
  REQUIRE(batch.records.size() == 2'000);
  CHECK(batch.records[0].sequence == Sequence(3'001));
  while (f.store->wants_commit()) f.commit();
  CHECK(f.store->status().used_pages < used / 2 + 5);
  CHECK(f.lane().dropped > Sequence(2'500));
  CHECK(f.lane().dropped <= Sequence(3'000));
  CHECK(f.lane().records == 2'000);
}

TEST_CASE("a batch has at least one record and keeps its limits", "[store]") {
  StoreFixture f;
  f.open();
  f.put({std::string(1'000, 'a'), std::string(1'000, 'b'), std::string(1'000, 'c')});
  BatchLimits tight;
  tight.bytes = 1;
  CHECK(f.read(tight).records.size() == 1);
  CHECK(f.read(tight).more);
  CHECK_FALSE(f.read({}).more);
  tight.bytes = 2'300;
  CHECK(f.read(tight).records.size() == 2);
  tight.bytes = 1 << 20;
  tight.records = 2;
  CHECK(f.read(tight).records.size() == 2);
}

TEST_CASE("the marks outlive everything being deleted", "[store]") {
  StoreFixture f;
  f.open();
  f.put_many(100);
  f.reopen();
  f.deliver();
  while (f.store->wants_commit()) f.commit();
  CHECK(f.lane().dropped == Sequence(100));
  f.reopen();
  CHECK(f.lane().last == Sequence(100));
  CHECK(f.lane().delivered == Sequence(100));
  CHECK(f.read().empty());
  f.put({"next"});
  CHECK(f.read().records.at(0).sequence == Sequence(101));
}

TEST_CASE("delivered is on disk with the next commit, or with an orderly end", "[store]") {
  StoreFixture f;
  f.open();
  f.put({"a", "b"});
  f.deliver();
  CHECK(f.read().empty());
  f.crash();  // no commit since
  CHECK(f.read_payloads() == Strings{"a", "b"});
  f.deliver();
  f.commit();
  f.crash();
  CHECK(f.read().empty());
  f.put({"c"});
  f.deliver();
  f.reopen();
  CHECK(f.read().empty());
}

TEST_CASE("a run that numbered nothing leaves no trace, every other one does", "[store]") {
  StoreFixture f;
  f.open();
  f.reopen();
  auto first = f.store->status().run;
  f.put({"a"});
  f.reopen();
  f.reopen();
  auto third = f.store->status().run;
  f.put({"b"});
  auto history = f.store->history();
  REQUIRE(history.runs.size() == 2);
  CHECK(history.runs[0].run == first);
  CHECK(history.runs[1].run == third);
  CHECK(history.runs[1].first == Positions{{"telemetry", Sequence(2)}});
  CHECK(history.epochs.size() == 1);
  auto batch = f.read();
  CHECK(batch.after.runs == history.runs);
  BatchLimits one;
  one.records = 1;
  CHECK(f.read(one).after.runs.size() == 1);
}

TEST_CASE("another agent id moves what is undelivered to a new epoch", "[store]") {
  StoreFixture f;
  f.open();
  f.put({"a", "b", "c"});
  BatchLimits one;
  one.records = 1;
  f.deliver(one);
  f.commit();
  auto before = f.store->status().epoch;
  f.settings.agent = "gw-2";
  f.reopen();
  auto after = f.store->status().epoch;
  CHECK(before != after);
  CHECK(f.store->history().epoch_of("telemetry", Sequence(1)) == before);
  auto batch = f.read();
  REQUIRE(batch.records.size() == 2);
  CHECK(batch.records[0].epoch == after);
  CHECK(batch.after.epoch == after);
  f.reopen();
  CHECK(f.store->history().epochs.size() == 2);
}

TEST_CASE("settle raises delivered, and with a fork draws a new epoch once", "[store]") {
  StoreFixture f;
  f.open();
  f.put({"a", "b", "c"});
  Settlement ordinary;
  ordinary.delivered = {{"telemetry", Sequence(1)}};
  REQUIRE(f.store->settle(ordinary).ok());
  CHECK(f.read_payloads() == Strings{"b", "c"});
  CHECK(f.store->history().epochs.size() == 1);

  Settlement fork;
  fork.delivered = {{"telemetry", Sequence(2)}};
  fork.fork = true;
  fork.forked_from = draw<Digest>();
  REQUIRE(f.store->settle(fork).ok());
  f.put({"d"});
  f.reopen();
  auto history = f.store->history();
  REQUIRE(history.epochs.size() == 2);
  CHECK(history.epochs[1].forked_from == fork.forked_from);
  CHECK(history.epochs[1].first == Positions{{"telemetry", Sequence(3)}});
  auto batch = f.read();
  CHECK(f.payloads(batch) == Strings{"c", "d"});
  CHECK(batch.records[0].epoch == history.epochs[1].epoch);
  CHECK(batch.records[1].epoch == history.epochs[1].epoch);
}

TEST_CASE("lanes are served by priority and keep their numbers when the configuration changes", "[store]") {
  StoreFixture f;
  f.settings.lanes = {{"telemetry", 5}, {"alarms", 0}};
  f.open();
  f.put({"t1"}, "telemetry");
  f.put({"a1"}, "alarms");
  CHECK(f.read_payloads() == Strings{"a1", "t1"});
  auto telemetry = f.store->lane("telemetry");
  f.settings.lanes = {{"alarms", 3}, {"bulk", 9}};
  f.reopen();
  CHECK(f.store->lane("telemetry") == telemetry);
  CHECK(f.store->name_of(*telemetry) == "telemetry");
  CHECK(f.store->lane("bulk") == Lane{2});
  CHECK_FALSE(f.store->lane("nowhere"));
  f.put({"b1"}, "bulk");
  CHECK(f.read_payloads() == Strings{"a1", "b1", "t1"});  // a lane taken out of the configuration drains last
}

TEST_CASE("a state change is in the commit of its records, and a later one wins", "[store]") {
  StoreFixture f;
  f.open();
  Group group = f.group({"a"});
  group.changes = {{"id/1", "x"}, {"id/2", "y"}, {"id/1", std::nullopt}, {"id/3", std::string("\0z", 2)}};
  f.commit({group});
  f.reopen();
  CHECK(*f.store->state("plant", "id/1") == std::nullopt);
  CHECK(*f.store->state("plant", "id/2") == "y");
  CHECK(*f.store->state("other", "id/2") == std::nullopt);
  auto states = f.store->states("plant", "id/");
  REQUIRE(states->size() == 2);
  CHECK((*states)[1] == std::pair<std::string, std::string>("id/3", std::string("\0z", 2)));

  Group wrong = f.group({"b"});
  wrong.changes = {{"id/4", std::string(1'025, 'v')}};
  auto refused = f.store->commit(std::vector{wrong});
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().fault == Fault::rejected);
  CHECK(f.read_payloads() == Strings{"a"});
}

TEST_CASE("records larger than a page come back whole, between small ones", "[store]") {
  StoreFixture f;
  f.open();
  std::string noise;
  std::uint32_t seed = 1;
  for (int i = 0; i < 200'000; ++i) noise += static_cast<char>((seed = seed * 1'664'525 + 1'013'904'223) >> 24);
  Strings payloads = {"small", noise, "between", std::string(300'000, 'z'), noise.substr(7, 9'000), "last"};
  f.put(payloads);
  f.put({"more"});
  f.reopen();
  payloads.push_back("more");
  CHECK(f.read_payloads() == payloads);
  f.deliver();
  while (f.store->wants_commit()) f.commit();
  CHECK(f.store->status().used_pages < 10);
}

TEST_CASE("a record above max_record_bytes is counted, told once, and not numbered", "[store]") {
  StoreFixture f;
  f.settings.max_record_bytes = 10'000;
  f.open();
  f.put({"a", std::string(10'000, 'x'), "b"});
  f.read();
  f.commit();  // the entry stops growing once somebody has asked for it
  auto batch = f.read();
  CHECK(f.payloads(batch) == Strings{"a", "b"});
  REQUIRE(batch.gaps.size() == 1);
  CHECK(batch.gaps[0].cause == Cause::too_large);
  CHECK(batch.gaps[0].first == Sequence());
  CHECK(batch.gaps[0].count == 1);
  CHECK(batch.after.ledger == batch.gaps[0].entry);
  f.store->delivered(batch.after);
  CHECK(f.read().empty());
  f.commit();
  f.reopen();
  CHECK(f.read().empty());
}

}  // namespace store_test
}  // namespace
}  // namespace penstock
