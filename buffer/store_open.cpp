#include <fmt/format.h>

#include <algorithm>

#include "buffer/bytes.h"
#include "buffer/store_inside.h"

namespace penstock {
namespace {

constexpr std::uint64_t kLeastCapacity = 1 << 20;
constexpr std::uint64_t kLeastJournal = 64 << 10;
constexpr std::uint64_t kFirstBytes = 2 << 20;
constexpr const char* kJournal = "journal";

std::uint64_t usable_capacity(std::uint64_t wanted, std::uint64_t page_bytes) {
  return wanted / page_bytes * page_bytes;
}

std::uint64_t journal_bytes(const StoreSettings& settings) {
  auto bytes = std::min(settings.journal_bytes, settings.capacity_bytes / 4);
  return std::max(kLeastJournal, bytes / kFrameAlignment * kFrameAlignment);
}

std::uint64_t random_seed() {
  auto bytes = random_bytes();
  return load_big<std::uint64_t>(reinterpret_cast<const char*>(bytes.data()));
}

Error unreadable_row(const StoreDirectory& directory, std::string_view row) {
  return broken(fmt::format("{}: the row \"{}\" is missing or not of its format", directory.path().string(), row));
}

template <class Firsts>
Positions by_name(const Firsts& firsts, const std::vector<LaneState>& lanes) {
  Positions positions;
  for (const auto& [lane, first] : firsts) {
    if (number(lane) < lanes.size()) positions[lanes[number(lane)].name] = first;
  }
  return positions;
}

}  // namespace

Result<std::unique_ptr<Store::Inside>> Store::Inside::open(const StoreSettings& settings, const Clock& clock) {
  if (sizeof(void*) == 4 && settings.capacity_bytes > std::uint64_t{1} << 30) {
    return rejected(fmt::format("{}: a capacity of {} bytes is more than the 1 GiB a 32-bit program can use",
                                settings.directory.string(), settings.capacity_bytes));
  }
  if (settings.capacity_bytes < kLeastCapacity) {
    return rejected(fmt::format("{}: a capacity of {} bytes is below the least, {}", settings.directory.string(),
                                settings.capacity_bytes, kLeastCapacity));
  }
  if (settings.max_record_bytes > kMostRecordBytes) {
    return rejected(fmt::format("max_record_bytes {} is above {}", settings.max_record_bytes, kMostRecordBytes));
  }
  auto directory = StoreDirectory::open(settings.directory);
  if (!directory) return directory.error();
  auto inside = std::make_unique<Inside>(std::move(*directory), settings, clock);

  auto exists = inside->look();
  if (!exists) return exists.error();
  auto opened = *exists ? inside->open_store() : inside->make_store();
  if (!opened) return opened.error();
  auto rows = inside->replay();
  if (!rows) return rows.error();
  if (auto loaded = inside->load(*rows); !loaded) return loaded.error();
  inside->place_frames();
  if (auto entered = inside->enter(); !entered) return entered.error();
  return inside;
}

Result<void> Store::Inside::open_files(const Manifest& manifest) {
  auto opened = Environment::open(directory.path(), manifest.capacity);
  if (!opened) return opened.error();
  environment = std::move(*opened);
  if (environment->page_bytes() != manifest.page_bytes) {
    return broken(fmt::format("{}: pages of {} bytes, the manifest says {}", settings.directory.string(),
                              environment->page_bytes(), manifest.page_bytes));
  }
  if (auto code = environment->check_rows(); code != 0) {
    return distrust(code, fmt::format("{}: cannot add checks", directory.path().string()));
  }
  // What a killed process committed last is seen by us, but perhaps not yet on disk: now it is.
  if (auto code = environment->sync(); code != 0) {
    return broken(fmt::format("{}: cannot sync: {}", settings.directory.string(), text_of(code)));
  }
  auto ring = Journal::open(directory.path() / kJournal, manifest.journal_seed);
  if (!ring) return ring.error();
  journal = std::move(*ring);
  journal_seed = manifest.journal_seed;
  coder = std::make_unique<BlockCoder>(settings.compression_level, environment->value_bytes());
  frame_coder = std::make_unique<FrameCoder>(settings.compression_level, manifest.journal_seed);
  frame_examiner = std::make_unique<FrameReader>(manifest.journal_seed);
  frame_reader = std::make_unique<FrameReader>(manifest.journal_seed);
  return {};
}

Result<void> Store::Inside::open_store() {
  auto read = directory.read();
  if (!read) return read.error();
  Manifest manifest = *read;
  auto path = directory.path() / kJournal;
  std::error_code none;
  const bool has_journal = manifest.format != kFormatWithoutJournal;
  if (!has_journal) {  // made before there were journals: it gets one
    manifest.format = kManifestFormat;
    manifest.journal_seed = random_seed();
  }
  const std::uint64_t whole = manifest.journal_bytes != 0 ? manifest.journal_bytes : journal_bytes(settings);
  const auto found = std::filesystem::exists(path, none) ? std::filesystem::file_size(path, none) : 0;
  if (found < whole) {
    // What was only in the part that is missing is lost. To refuse would lose all that comes, too.
    state.journal_cut_off = has_journal;
    if (auto made = Journal::make(path, whole); !made) return made;
  }
  const auto ring = std::max(found, whole);
  const auto capacity =
      usable_capacity(settings.capacity_bytes - std::min(ring, settings.capacity_bytes / 2), manifest.page_bytes);
  if (!has_journal || manifest.capacity != capacity || manifest.journal_bytes != ring) {
    manifest.capacity = capacity;
    manifest.journal_bytes = ring;
    if (auto replaced = directory.replace(manifest); !replaced) return replaced;
  }
  return open_files(manifest);
}

Result<void> Store::Inside::make_store() {
  Manifest manifest;
  manifest.page_bytes = static_cast<std::uint64_t>(system_page_bytes());
  manifest.journal_bytes = journal_bytes(settings);
  manifest.journal_seed = random_seed();
  manifest.capacity = usable_capacity(settings.capacity_bytes - manifest.journal_bytes, manifest.page_bytes);
  if (auto begun = directory.begin_store(manifest); !begun) return begun;
  if (auto made = Journal::make(directory.path() / kJournal, manifest.journal_bytes); !made) return made;
  if (auto opened = open_files(manifest); !opened) return opened;

  Transaction first(*environment, Transaction::Access::write);
  std::string format;
  append_big(format, kManifestFormat);
  first.put(meta_key("format"), format);
  first.put(meta_key("agent"), settings.agent);
  first.put(epoch_key(0), encode_epoch({draw<Epoch>(), Digest{}, {}}));
  if (auto code = first.commit(); code != 0) {
    std::string what = fmt::format("{}: cannot make the store: {}", directory.path().string(), text_of(code));
    return disk_is_full(code) ? full(std::move(what)) : broken(std::move(what));
  }
  environment->look_at_format();
  // So much is ours from the first day: on a disk that is full later it is what giving up works in.
  if (auto written = prewrite_step(kFirstBytes, 0); !written) return broken(written.error().what);
  return directory.finish_store();
}

Result<void> Store::Inside::load(const SmallRows& rows) {
  auto format = rows.find(meta_key("format"));
  if (format == rows.end() || format->second.size() != 4) return unreadable_row(directory, "format");
  if (auto found = load_big<std::uint32_t>(format->second.data()); found > kManifestFormat) {
    return rejected(fmt::format("{}: format {}, this program knows formats up to {}", directory.path().string(), found,
                                kManifestFormat));
  }
  for (std::uint32_t i = 0; i <= 0xffff; ++i) {
    auto name = rows.find(lane_key(Lane{static_cast<std::uint16_t>(i)}));
    if (name == rows.end()) break;
    LaneState lane;
    lane.name = name->second;
    for (const auto& known : settings.lanes) {
      if (known.name != lane.name) continue;
      lane.priority = known.priority;
      lane.max_age = known.max_age;
      lane.share = known.share;
    }
    state.lanes.push_back(std::move(lane));
  }
  for (std::uint32_t i = 0;; ++i) {
    auto value = rows.find(epoch_key(i));
    if (value == rows.end()) break;
    auto row = parse_epoch(value->second);
    if (!row) return unreadable_row(directory, fmt::format("epoch {}", i));
    state.epochs.push_back({row->epoch, by_name(row->first, state.lanes), row->forked_from});
  }
  if (state.epochs.empty()) return unreadable_row(directory, "epoch 0");
  if (auto loaded = load_marks(rows); !loaded) return loaded;
  return load_runs_and_ledger(rows);
}

Result<void> Store::Inside::load_marks(const SmallRows& rows) {
  for (std::size_t i = 0; i < state.lanes.size(); ++i) {
    auto& lane = state.lanes[i];
    auto value = rows.find(marks_key(Lane{static_cast<std::uint16_t>(i)}));
    if (value == rows.end()) continue;  // nothing was ever numbered in it
    auto marks = parse_marks(value->second);
    if (!marks) return unreadable_row(directory, "marks of " + lane.name);
    lane.marks = *marks;
    lane.stored_delivered = marks->delivered;
    lane.sealed = marks->last;
  }
  return {};
}

Result<void> Store::Inside::load_runs_and_ledger(const SmallRows& rows) {
  std::string prefix = meta_key("run");
  bool first = true;
  for (auto it = rows.lower_bound(prefix); it != rows.end() && it->first.substr(0, prefix.size()) == prefix; ++it) {
    auto row = parse_run(it->second);
    if (!row || it->first.size() != prefix.size() + 4) return unreadable_row(directory, "run");
    if (first) state.first_run = load_big<std::uint32_t>(it->first.data() + prefix.size());
    first = false;
    state.runs.push_back({row->run, row->epoch, by_name(row->first, state.lanes)});
  }
  prefix = meta_key("ledger");
  for (auto it = rows.lower_bound(prefix); it != rows.end() && it->first.substr(0, prefix.size()) == prefix; ++it) {
    if (it->first.size() != prefix.size() + 8) continue;
    auto entry = parse_ledger_entry(it->second);
    if (!entry) return unreadable_row(directory, "ledger");
    state.ledger.load(load_big<std::uint64_t>(it->first.data() + prefix.size()), *entry);
  }
  if (auto last = rows.find(meta_key("ledger_last")); last != rows.end() && last->second.size() == 8) {
    state.ledger.load_last_number(load_big<std::uint64_t>(last->second.data()));
  }
  state.closed = state.close_wanted = state.ledger.last_number();  // an earlier life may have sent any of them
  return {};
}

/// New lanes and another agent id, in one durable commit; none if there is nothing to say. Then the present run begins.
Result<void> Store::Inside::enter() {
  Transaction change(*environment, Transaction::Access::write);
  for (const auto& lane : settings.lanes) {
    auto known = [&](const LaneState& other) { return other.name == lane.name; };
    if (std::any_of(state.lanes.begin(), state.lanes.end(), known)) continue;
    if (state.lanes.size() > 0xffff) return rejected("more than 65,536 lanes");
    change.put(lane_key(Lane{static_cast<std::uint16_t>(state.lanes.size())}), lane.name);
    auto& made = state.lanes.emplace_back();
    made.name = lane.name;
    made.priority = lane.priority;
    made.max_age = lane.max_age;
    made.share = lane.share;
  }
  auto agent = change.get(meta_key("agent"));
  if (agent != settings.agent) {
    EpochRow row{draw<Epoch>(), Digest{}, {}};
    for (std::size_t i = 0; i < state.lanes.size(); ++i) {
      row.first[Lane{static_cast<std::uint16_t>(i)}] = state.lanes[i].marks.delivered.next();
    }
    change.put(meta_key("agent"), settings.agent);
    change.put(epoch_key(static_cast<std::uint32_t>(state.epochs.size())), encode_epoch(row));
    state.epochs.push_back({row.epoch, by_name(row.first, state.lanes), Digest{}});
  }
  if (change.touched()) {
    auto snapshot = change.snapshot();
    if (auto code = change.commit(); code != 0) {
      std::string what = fmt::format("{}: {}", directory.path().string(), text_of(code));
      return map_is_full(code) || disk_is_full(code) ? full(std::move(what)) : broken(std::move(what));
    }
    state.snapshot = snapshot;
  }

  RunEntry present{draw<Run>(), state.epochs.back().epoch, {}};
  for (const auto& lane : state.lanes) present.first[lane.name] = lane.marks.last.next();
  state.runs.push_back(std::move(present));
  packers.resize(state.lanes.size());
  unsealed.resize(state.lanes.size());
  return {};
}

}  // namespace penstock
