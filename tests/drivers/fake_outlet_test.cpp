#include "tests/fakes/fake_outlet.h"

#include <atomic>

#include "tests/catch.h"

namespace penstock {
namespace {
namespace fake_outlet_test {

std::vector<Record> records_named(std::initializer_list<const char*> streams) {
  std::vector<Record> records;
  for (const char* stream : streams) records.emplace_back().stream = stream;
  return records;
}

TEST_CASE("the fake outlet makes a put durable by itself, or only when the test lets it", "[fakes]") {
  FakeOutlet outlet;
  auto first = outlet.put(records_named({"a"}), {{"position", "1"}}, {});
  REQUIRE(first.ok());
  REQUIRE(outlet.wait_durable(*first, {}));
  CHECK(**outlet.state("position") == "1");

  outlet.hold_durable();
  std::atomic<int> calls{0};
  outlet.on_durable([&] { ++calls; });
  auto second = outlet.put(records_named({"b", "c"}), {{"position", std::nullopt}}, {});
  CHECK(outlet.durable() == *first);
  CHECK(outlet.state("position")->has_value());
  outlet.make_durable(*second);
  // The call set just now may also have been run for the first ticket.
  CHECK(outlet.eventually([&] { return outlet.durable() == *second && calls >= 1; }));
  CHECK_FALSE(outlet.state("position")->has_value());
  CHECK(outlet.groups() == std::vector<std::size_t>{1, 2});
  outlet.on_durable({});
}

TEST_CASE("the fake outlet leaves an offer untouched when there is no room, and tells when there is", "[fakes]") {
  FakeOutlet outlet(1000);
  outlet.set_room(1);
  auto two = records_named({"a", "b"});
  std::vector<StateChange> none;
  auto refused = outlet.offer(two, none);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().fault == Fault::full);
  CHECK(two.size() == 2);

  std::atomic<bool> told{false};
  outlet.on_durable([&] { told = true; });
  outlet.unlimited_room();
  CHECK(outlet.eventually([&] { return told.load(); }));
  CHECK(outlet.offer(two, none).ok());
  CHECK(outlet.records()[1].stream == "b");

  auto large = records_named({"large"});
  large[0].payload.resize(1000);
  auto too_large = outlet.offer(large, none);
  REQUIRE_FALSE(too_large.ok());
  CHECK(too_large.error().fault == Fault::rejected);
  outlet.on_durable({});
}

}  // namespace fake_outlet_test
}  // namespace
}  // namespace penstock
