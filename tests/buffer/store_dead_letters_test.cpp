// Dead letters: set aside, listed, retried, discarded; full, crashed, forked, damaged.
#include <algorithm>
#include <fstream>
#include <sstream>

#include "buffer/block.h"
#include "buffer/database.h"
#include "buffer/meta.h"
#include "buffer/pages.h"
#include "buffer/suspect.h"
#include "tests/buffer/store_fixture.h"

namespace penstock {
namespace {
namespace store_dead_letters_test {

class Fixture : public StoreFixture {
 public:
  void set_aside(std::uint64_t sequence, const std::string& reason = "too large") {
    auto done = store->set_aside(telemetry(), Sequence(sequence), reason);
    if (!done) FAIL("set aside " << sequence << ": " << done.error().what);
  }
  std::vector<DeadLetter> letters(BatchLimits limits = {}) {
    auto found = store->dead_letters(std::nullopt, limits);
    if (!found) FAIL(found.error().what);
    return std::move(*found);
  }
  std::vector<DeadLetterId> ids() {
    std::vector<DeadLetterId> result;
    for (const auto& letter : letters()) result.push_back(letter.id());
    return result;
  }
  DeadLettersDone retry(const std::vector<DeadLetterId>& which) {
    auto done = store->retry(which);
    if (!done) FAIL(done.error().what);
    return *done;
  }
  DeadLettersDone discard(const std::vector<DeadLetterId>& which) {
    auto done = store->discard(which);
    if (!done) FAIL(done.error().what);
    return *done;
  }
  Lane telemetry() { return store->lane("telemetry").value(); }

  /// What a reader is given, in order: "3" a record, "(4-6 dead_letter)" a gap, "2 discarded" a count.
  std::string told(BatchLimits limits = {}) {
    auto batch = read(limits);
    std::vector<std::pair<std::uint64_t, std::string>> parts;
    for (const auto& stored : batch.records)
      parts.emplace_back(stored.sequence.value(), std::to_string(stored.sequence.value()));
    std::string counts;
    for (const auto& gap : batch.gaps) {
      if (gap.first == Sequence()) {
        counts += " " + std::to_string(gap.count) + " " + name_of(gap.cause);
        continue;
      }
      parts.emplace_back(gap.first.value(), "(" + std::to_string(gap.first.value()) + "-" +
                                                std::to_string(gap.last.value()) + " " + name_of(gap.cause) + ")");
    }
    std::stable_sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::string text;
    for (const auto& [first, part] : parts) text += (text.empty() ? "" : " ") + part;
    return text + counts;
  }
  /// Counts that may still grow are told after the next commit.
  std::string told_all() {
    (void)read();
    commit();
    return told();
  }
  static std::string noise(std::size_t bytes) {
    std::string text;
    std::uint64_t state = bytes;
    while (text.size() < bytes)
      text += static_cast<char>((state = state * 6364136223846793005u + 1442695040888963407u) >> 56);
    return text;
  }
};

TEST_CASE("a record that is set aside is a gap in the midst of its block, in the journal and in LMDB",
          "[store][deadletters]") {
  Fixture f;
  f.open();
  f.put({"a", "b", "c", "d", "e"});
  f.set_aside(3);
  CHECK(f.told() == "1 2 (3-3 dead_letter) 4 5");
  f.reopen();  // sealed
  CHECK(f.told() == "1 2 (3-3 dead_letter) 4 5");
  f.set_aside(4);
  CHECK(f.told() == "1 2 (3-4 dead_letter) 5");
  f.set_aside(1);
  f.set_aside(5);
  CHECK(f.told() == "(1-1 dead_letter) 2 (3-5 dead_letter)");
  f.deliver();
  CHECK(f.told().empty());
  CHECK(f.store->status().dead_letters == 4);
  f.put({"f"});
  CHECK(f.told() == "6");
}

TEST_CASE("a batch goes on behind a block of which nothing is left, wherever it lies", "[store][deadletters]") {
  constexpr std::uint64_t kRecords = 24;  // in blocks of their own: more than one read transaction copies
  for (std::uint64_t aside = 1; aside <= kRecords; ++aside) {
    Fixture f;
    f.settings.capacity_bytes = 16 << 20;
    f.open();
    for (std::uint64_t i = 0; i < kRecords; ++i) f.put({Fixture::noise(20'000)});
    f.reopen();  // sealed
    f.set_aside(aside);
    std::string all;
    for (std::uint64_t sequence = 1; sequence <= kRecords; ++sequence) {
      auto text = std::to_string(sequence);
      all += (all.empty() ? "" : " ") + (sequence == aside ? "(" + text + "-" + text + " dead_letter)" : text);
    }
    CHECK(f.told() == all);
  }
}

TEST_CASE("a gap in the midst of a block takes part in the limits of a batch", "[store][deadletters]") {
  Fixture f;
  f.open();
  f.put({"a", "b", "c", "d", "e"});
  f.set_aside(2);
  f.set_aside(4);
  BatchLimits one;
  one.records = 1;
  std::string all;
  for (int i = 0; i < 10; ++i) {
    auto text = f.told(one);
    if (text.empty()) break;
    all += text + "|";
    f.deliver(one);
  }
  CHECK(all == "1 (2-2 dead_letter)|3 (4-4 dead_letter)|5|");
}

TEST_CASE("a dead letter is listed as it was put, with its reason, and outlives a crash at once",
          "[store][deadletters]") {
  Fixture f;
  f.open();
  auto group = f.group({});
  auto record = StoreFixture::record(Fixture::noise(20'000), "s/large");
  record.headers = {{"unit", "Cel"}};
  record.boottime = std::chrono::microseconds(77);
  group.records = {StoreFixture::record("small"), record, StoreFixture::record("after")};
  f.commit({group});
  auto epoch = f.store->status().epoch;
  f.set_aside(2, "Broker: Message size too large");
  f.crash();
  CHECK(f.told() == "1 (2-2 dead_letter) 3");
  auto letters = f.letters();
  REQUIRE(letters.size() == 1);
  CHECK(letters[0].id() == DeadLetterId{epoch, f.telemetry(), Sequence(2)});
  CHECK(letters[0].reason == "Broker: Message size too large");
  CHECK(letters[0].time == f.clock.wall());
  CHECK(letters[0].stored.boot == f.clock.boot());
  CHECK_FALSE(letters[0].damaged);
  CHECK(letters[0].stored.record == record);
  CHECK(f.store->status().dead_letters == 1);
  CHECK(f.store->status().dead_letter_pages == 6);
  // Delivered, deleted, in another life: still there.
  f.deliver();
  f.commit();
  f.reopen();
  CHECK(f.letters().size() == 1);
  CHECK(f.letters()[0].stored.record == record);
}

TEST_CASE("what is not in the queue cannot be set aside, and twice is once", "[store][deadletters]") {
  Fixture f;
  f.open();
  f.put({"a", "b", "c"});
  BatchLimits one;
  one.records = 1;
  f.deliver(one);
  for (std::uint64_t sequence : {0, 1, 4}) {
    auto done = f.store->set_aside(f.telemetry(), Sequence(sequence), "x");
    INFO("sequence " << sequence);
    REQUIRE_FALSE(done);
    CHECK(done.error().fault == Fault::rejected);
  }
  f.set_aside(2, "first");
  f.set_aside(2, "second");
  REQUIRE(f.letters().size() == 1);
  CHECK(f.letters()[0].reason == "first");
  CHECK(f.told() == "(2-2 dead_letter) 3");
}

TEST_CASE("a retry is a new record with a new sequence and the old name, in one commit with the removal",
          "[store][deadletters]") {
  Fixture f;
  f.open();
  f.put({"a", "b", Fixture::noise(9'000)});
  auto epoch = f.store->status().epoch.hex();
  f.set_aside(2);
  f.set_aside(3);
  auto commits = f.store->status().commits;
  CHECK(f.retry({f.ids()[0]}).done == 1);
  CHECK(f.store->status().commits <= commits + 2);  // of what lay in the journal, and its own
  f.crash();
  CHECK(f.told() == "1 (2-3 dead_letter) 4");
  REQUIRE(f.ids().size() == 1);
  auto again = f.read().records.back();
  CHECK(again.record.payload == "b");
  CHECK(again.record.retried);
  CHECK(again.record.headers == std::vector<Header>{{"ce_retryof", epoch + ":telemetry:2"}});

  auto id = f.ids()[0];
  auto done = f.retry({id, id, DeadLetterId{id.epoch, id.lane, Sequence(2)}});
  CHECK(done.done == 1);
  CHECK(done.missing.size() == 1);
  CHECK(f.store->status().dead_letters == 0);
  CHECK(f.store->status().dead_letter_pages == 0);
  CHECK(f.told() == "1 (2-3 dead_letter) 4 5");
  // Refused again, retried again: it names the last one, once.
  f.set_aside(4);
  CHECK(f.retry(f.ids()).done == 1);
  auto third = f.read().records.back();
  CHECK(third.sequence == Sequence(6));
  CHECK(third.record.headers == std::vector<Header>{{"ce_retryof", epoch + ":telemetry:4"}});
  f.deliver();
  f.commit();
  f.reopen();
  CHECK(f.told().empty());
  CHECK(f.letters().empty());
}

TEST_CASE("a retry keeps the boot it was taken in, and may be over max_record_bytes by its header",
          "[store][deadletters]") {
  Fixture f;
  f.settings.max_record_bytes = 2'000;
  f.open();
  auto group = f.group({});
  auto record = StoreFixture::record("");
  record.payload = std::string(f.settings.max_record_bytes - record.bytes(), 'x');
  group.records = {record};
  f.commit({group});
  f.set_aside(1);
  auto boot = f.clock.boot();
  f.clock.reboot();
  f.put({"of the new boot"});
  CHECK(f.retry(f.ids()).done == 1);
  f.put({"and another"});
  auto records = f.read().records;
  REQUIRE(records.size() == 3);
  CHECK(records[0].boot == f.clock.boot());
  CHECK(records[1].boot == boot);
  CHECK(records[1].record.payload == record.payload);
  CHECK(records[2].boot == f.clock.boot());
}

TEST_CASE("a discard is told as a count of its own, which delivering the sequence does not take away",
          "[store][deadletters]") {
  Fixture f;
  f.open();
  f.put({"a", "b", "c"});
  f.set_aside(1);
  f.set_aside(2);
  f.deliver();
  auto done = f.discard({f.ids()[0], f.ids()[1], DeadLetterId{}});
  CHECK(done.done == 2);
  CHECK(done.missing.size() == 1);
  f.crash();
  CHECK(f.letters().empty());
  CHECK(f.told_all() == " 2 discarded");
  f.deliver();
  f.commit();
  CHECK(f.store->status().ledger_entries == 0);
}

TEST_CASE("dead letters stay below a twentieth of the capacity, the oldest leave and are told",
          "[store][deadletters][full]") {
  Fixture f;
  f.settings.capacity_bytes = 2 << 20;
  f.open();
  const auto most = f.settings.capacity_bytes / f.store->status().page_bytes / 20;
  const std::uint64_t count = most + 7;
  f.put_many(static_cast<std::size_t>(count) + 1);
  for (std::uint64_t sequence = 1; sequence <= count; ++sequence) {
    f.set_aside(sequence);
    CHECK(f.store->status().dead_letter_pages <= most);
  }
  CHECK(f.store->status().dead_letters == most);
  CHECK(f.ids().front().sequence == Sequence(8));
  CHECK(f.told_all() ==
        "(1-" + std::to_string(count) + " dead_letter) " + std::to_string(count + 1) + " 7 dead_letter_evicted");
  // One that alone is too much is not kept, and told.
  f.put({Fixture::noise(2 << 17)});
  f.set_aside(count + 2);
  CHECK(f.store->status().dead_letters == most);
  CHECK(f.told_all() == "(1-" + std::to_string(count) + " dead_letter) " + std::to_string(count + 1) + " (" +
                            std::to_string(count + 2) + "-" + std::to_string(count + 2) +
                            " dead_letter) 7 dead_letter_evicted 1 dead_letter_evicted");
  // A capacity that was lowered takes effect with a commit.
  f.settings.capacity_bytes = 1 << 20;
  f.reopen();
  f.commit();
  CHECK(f.store->status().dead_letter_pages <= most / 2);
}

TEST_CASE("in a full store under each policy a record can be set aside, and a retry is done whole or not at all",
          "[store][deadletters][full]") {
  auto policy = GENERATE(WhenFull::evict_oldest, WhenFull::reject_newest, WhenFull::block);
  Fixture f;
  f.settings.capacity_bytes = 4 << 20;
  f.settings.journal_bytes = 64 << 10;
  f.settings.when_full = policy;
  f.open();
  for (int i = 0; i < 2'500; ++i) {
    auto done =
        f.store->commit(std::vector<Group>{f.group({Fixture::noise(2'000 + static_cast<std::size_t>(i % 2'000))})});
    if (!done) break;
  }
  auto first = f.read().records.at(3).sequence;
  f.set_aside(first.value());
  auto status = f.store->status();
  INFO("policy " << static_cast<int>(policy) << ", " << status.free_pages << " pages free");
  auto given_up = [&](Cause wanted) {
    for (auto [cause, count] : f.store->status().given_up) {
      if (cause == wanted) return count;
    }
    return std::uint64_t{0};
  };
  REQUIRE(status.dead_letters == 1);
  CHECK(given_up(Cause::dead_letter) == 1);
  auto last = f.lane().last;
  auto retried = f.store->retry(f.ids());
  REQUIRE(retried);
  if (retried->no_room.empty()) {
    CHECK(retried->done == 1);
    CHECK(policy == WhenFull::evict_oldest);
    CHECK(f.letters().empty());
    CHECK(f.lane().last == last.next());
  } else {
    CHECK(retried->done == 0);
    CHECK(retried->no_room.find("are in use") != std::string::npos);
    CHECK(f.letters().size() == 1);
    CHECK(f.lane().last == last);
  }
  // Everything is told once, as a record or in a gap.
  std::uint64_t next = 1;
  for (int i = 0; i < 100; ++i) {
    auto batch = f.deliver();
    std::map<std::uint64_t, std::uint64_t> ranges;
    for (const auto& stored : batch.records) ranges[stored.sequence.value()] = stored.sequence.value();
    for (const auto& gap : batch.gaps) {
      if (gap.first != Sequence()) ranges[gap.first.value()] = gap.last.value();
    }
    for (auto [from, to] : ranges) {
      if (from != next) FAIL("expected " << next << ", found " << from);
      next = to + 1;
    }
    f.commit();
  }
  CHECK(next == f.lane().last.value() + 1);
  for (auto [cause, count] : f.store->status().given_up) CHECK(cause != Cause::damaged);
}

TEST_CASE("evicting a block that holds a dead letter tells every record of it once", "[store][deadletters][full]") {
  Fixture f;
  f.settings.capacity_bytes = 1 << 20;
  f.settings.journal_bytes = 64 << 10;
  f.settings.compression_level = 0;
  f.open();
  f.put_many(40, 40);
  f.set_aside(20);
  for (int i = 0; i < 300; ++i) f.put({Fixture::noise(5'000)});
  auto batch = f.read();
  REQUIRE_FALSE(batch.gaps.empty());
  std::uint64_t next = 1;
  std::map<std::uint64_t, std::uint64_t> ranges;
  for (const auto& gap : batch.gaps) ranges[gap.first.value()] = gap.last.value();
  for (auto [from, to] : ranges) {
    if (from != next) FAIL("expected a gap from " << next << ", found one from " << from);
    next = to + 1;
  }
  CHECK(next == batch.records.front().sequence.value());
  CHECK(f.letters().size() == 1);
}

TEST_CASE("after a fork and under another agent id dead letters keep their names and can be retried",
          "[store][deadletters]") {
  Fixture f;
  f.open();
  f.put({"a", "b", "c"});
  f.set_aside(2);
  auto id = f.ids().at(0);
  f.settings.agent = "gw-2";
  f.reopen();
  CHECK(f.store->status().epoch != id.epoch);
  CHECK(f.ids() == std::vector<DeadLetterId>{id});
  f.set_aside(3);
  CHECK(f.ids().size() == 2);
  CHECK(f.told() == "1 (2-3 dead_letter)");
  CHECK(f.retry({id}).done == 1);
  auto again = f.read().records.back();
  CHECK(again.epoch == f.store->status().epoch);
  CHECK(again.record.headers.at(0).value == id.epoch.hex() + ":telemetry:2");
}

TEST_CASE("the list goes page by page, each dead letter once", "[store][deadletters]") {
  Fixture f;
  f.settings.capacity_bytes = 16 << 20;
  f.open();
  f.put_many(150, 10);
  for (std::uint64_t sequence = 1; sequence <= 150; ++sequence) f.set_aside(sequence, "r" + std::to_string(sequence));
  BatchLimits seven;
  seven.records = 7;
  std::optional<DeadLetterId> after;
  std::uint64_t next = 1;
  for (;;) {
    auto page = f.store->dead_letters(after, seven);
    REQUIRE(page);
    if (page->empty()) break;
    CHECK(page->size() <= 7);
    for (const auto& letter : *page) {
      if (letter.stored.sequence != Sequence(next))
        FAIL("expected " << next << ", found " << letter.stored.sequence.value());
      if (letter.stored.record.payload != StoreFixture::payload(next)) FAIL(next << " is another record");
      if (letter.reason != "r" + std::to_string(next)) FAIL(next << ": reason " << letter.reason);
      ++next;
    }
    after = page->back().id();
  }
  CHECK(next == 151);
  CHECK(f.letters().size() == 150);
}

std::string contents(const std::filesystem::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

TEST_CASE("a damaged dead letter is listed as damaged, not retried, and can be discarded",
          "[store][deadletters][damage]") {
  Fixture f;
  f.open();
  f.put({"a", Fixture::noise(20'000), "c"});
  f.set_aside(1);
  f.set_aside(2);
  f.store.reset();
  auto bytes = contents(f.settings.directory / "data.mdb");
  auto page = system_page_bytes();
  int hit = 0;
  for (std::size_t at = 0; at + page <= bytes.size(); at += page) {
    auto block = std::string_view(bytes).substr(at + kPageHeaderBytes, kBlockHeaderBytes);
    if (block.substr(0, 4) != "PSBK" || (block[6] & 2) == 0 || block[66] != 2) continue;
    bytes[at + 1000] = static_cast<char>(bytes[at + 1000] ^ 1);
    ++hit;
  }
  REQUIRE(hit == 1);
  std::ofstream(f.settings.directory / "data.mdb", std::ios::binary | std::ios::trunc) << bytes;
  f.open();
  auto letters = f.letters();
  REQUIRE(letters.size() == 2);
  CHECK_FALSE(letters[0].damaged);
  CHECK(letters[1].damaged);
  auto done = f.retry(f.ids());
  CHECK(done.done == 1);
  CHECK(done.damaged == std::vector<DeadLetterId>{letters[1].id()});
  CHECK(f.discard({letters[1].id()}).done == 1);
  CHECK(f.letters().empty());
}

TEST_CASE("a salvage carries dead letters over, and tells of one that is lost", "[store][deadletters][salvage]") {
  bool lose_newest = GENERATE(false, true);
  Fixture f;
  f.expect_damage = true;
  f.open();
  for (int i = 0; i < 40; ++i) {
    f.put_many(5);
    f.reopen();
  }
  f.put({Fixture::noise(20'000)});
  f.set_aside(7, "seven");
  f.set_aside(201, "large");
  f.set_aside(9, "nine");
  f.put_many(100);
  f.set_aside(250, "later");
  CHECK(f.discard({f.ids()[1]}).done == 1);  // 9: must not come back while the newest snapshot is known
  f.store.reset();
  auto path = f.settings.directory / "data.mdb";
  auto bytes = contents(path);
  auto page = system_page_bytes();
  if (lose_newest) {  // one fragment of the large one
    for (std::size_t at = 0; at + page <= bytes.size(); at += page) {
      auto block = std::string_view(bytes).substr(at + kPageHeaderBytes, kBlockHeaderBytes);
      if (block.substr(0, 4) == "PSBK" && (block[6] & 2) != 0 && block[66] == 2) bytes[at + 1000] ^= 1;
    }
  }
  // The newest tree's root: everything hangs from it.
  auto one = parse_meta_page(bytes.substr(0, page), 0), other = parse_meta_page(bytes.substr(page, page), 1);
  REQUIRE(one);
  REQUIRE(other);
  auto root = one->snapshot > other->snapshot ? one->main.root : other->main.root;
  REQUIRE(std::max(one->main.depth, other->main.depth) > 1);
  bytes.replace(static_cast<std::size_t>(root) * page, page, page, '\0');
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  f.open();
  REQUIRE(f.store->mended());
  CHECK(f.store->mended()->outcome == Mended::Outcome::salvaged);
  std::map<std::uint64_t, std::string> reasons;
  for (const auto& letter : f.letters()) {
    CHECK_FALSE(letter.damaged);
    reasons[letter.stored.sequence.value()] = letter.reason;
  }
  std::map<std::uint64_t, std::string> expected{{7, "seven"}, {250, "later"}};
  if (!lose_newest) expected[201] = "large";
  reasons.erase(9);  // the rows' newest state may be lost with the root: then what was discarded may be listed again
  CHECK(reasons == expected);
  CHECK(f.store->mended()->lost == (lose_newest ? 1 : 0));
  auto batch = f.read();
  for (const auto& stored : batch.records) {
    for (std::uint64_t aside : {7, 9, 201, 250}) {
      if (stored.sequence == Sequence(aside)) FAIL(aside << " is a record again");
    }
  }
  CHECK(batch.records.size() == 301 - 4);
}

TEST_CASE("a dead letter is no record again when the rows that say so are lost", "[store][deadletters][salvage]") {
  Fixture f;
  f.expect_damage = true;
  f.open();
  // Large enough to have pages of their own, apart from the rows.
  f.put({Fixture::noise(3'000), Fixture::noise(3'001), Fixture::noise(3'002), Fixture::noise(3'003)});
  f.reopen();
  f.set_aside(2);
  f.set_aside(4);
  auto ids = f.ids();
  f.store.reset();
  auto path = f.settings.directory / "data.mdb";
  auto bytes = contents(path);
  const auto page = system_page_bytes();
  const std::string ledger_key("\0ledger\0", 8);
  int hit = 0;
  for (std::size_t at = 2 * page; at + page <= bytes.size(); at += page) {
    if (bytes.substr(at, page).find(ledger_key) == std::string::npos) continue;
    bytes.replace(at, page, page, '\0');
    ++hit;
  }
  REQUIRE(hit > 0);
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  f.open();
  REQUIRE(f.store->mended());
  CHECK(f.store->mended()->outcome == Mended::Outcome::salvaged);
  CHECK(f.ids() == ids);
  CHECK(f.told() == "1 (2-2 dead_letter) 3 (4-4 dead_letter)");
  f.put({"a"});
  CHECK(f.read().records.back().sequence == Sequence(5));
}

TEST_CASE("a salvage leaves to the journal what lies before a dead letter", "[store][deadletters][salvage]") {
  Fixture f;
  f.expect_damage = true;
  f.open();
  f.put({Fixture::noise(3'000), Fixture::noise(3'001), Fixture::noise(3'002)});
  f.reopen();  // sealed
  f.put({"a", "b"});
  f.put({"c", "d"});
  f.set_aside(7);
  auto killed = f.directory.path() / "killed";
  std::filesystem::copy(f.settings.directory, killed);
  f.store.reset();
  f.settings.directory = killed;
  auto path = killed / "data.mdb";
  auto bytes = contents(path);
  const auto page = system_page_bytes();
  for (std::size_t at = 2 * page; at + page <= bytes.size(); at += page) {  // one block of the three
    auto block = std::string_view(bytes).substr(at + kPageHeaderBytes, kBlockHeaderBytes);
    if (block.substr(0, 4) == "PSBK" && (block[6] & 2) == 0) {
      bytes[at + 10] ^= 1;
      break;
    }
  }
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  mark_suspect(killed.c_str(), "a test");
  f.open();
  REQUIRE(f.store->mended());
  CHECK(f.store->mended()->outcome == Mended::Outcome::salvaged);
  auto batch = f.read();
  std::vector<std::uint64_t> sequences;
  for (const auto& stored : batch.records) {
    if (stored.sequence > Sequence(3)) sequences.push_back(stored.sequence.value());
  }
  CHECK(sequences == std::vector<std::uint64_t>{4, 5, 6});
  CHECK(f.letters().size() == 1);
}

TEST_CASE("a record that only looks like a retry is not one", "[store][deadletters]") {
  Fixture f;
  f.open();
  auto group = f.group({"a"});
  group.records[0].headers = {{"ce_retryof", "forged"}};
  f.commit({group});
  f.crash();
  auto stored = f.read().records.at(0);
  CHECK_FALSE(stored.record.retried);
  CHECK(stored.record.headers.at(0).value == "forged");
}

}  // namespace store_dead_letters_test
}  // namespace
}  // namespace penstock
