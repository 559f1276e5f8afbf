#include <fmt/format.h>

#include <algorithm>

#include "buffer/bytes.h"
#include "buffer/store_inside.h"

namespace penstock {
namespace {

constexpr std::uint64_t kLeastCapacity = 1 << 20;

std::uint64_t usable_capacity(std::uint64_t wanted, std::uint64_t page_bytes) {
  return wanted / page_bytes * page_bytes;
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
  Manifest manifest;
  if (*exists) {
    auto read = inside->directory.read();
    if (!read) return read.error();
    manifest = *read;
    auto capacity = usable_capacity(settings.capacity_bytes, manifest.page_bytes);
    if (auto opened = inside->open_environment(capacity); !opened) return opened.error();
    if (inside->environment->page_bytes() != manifest.page_bytes) {
      return broken(fmt::format("{}: pages of {} bytes, the manifest says {}", settings.directory.string(),
                                inside->environment->page_bytes(), manifest.page_bytes));
    }
    if (auto code = inside->environment->check_rows(); code != 0) {
      return inside->distrust(code, fmt::format("{}: cannot add checks", settings.directory.string()));
    }
    // What a killed process committed last is seen by us, but perhaps not yet on disk: now it is.
    if (auto code = inside->environment->sync(); code != 0) {
      return broken(fmt::format("{}: cannot sync: {}", settings.directory.string(), text_of(code)));
    }
    if (manifest.capacity != capacity) {
      manifest.capacity = capacity;
      if (auto replaced = inside->directory.replace(manifest); !replaced) return replaced.error();
    }
  } else if (auto made = inside->make_store(manifest); !made) {
    return made.error();
  }
  if (auto loaded = inside->load(); !loaded) return loaded.error();
  if (auto entered = inside->enter(); !entered) return entered.error();
  return inside;
}

Result<void> Store::Inside::open_environment(std::uint64_t capacity) {
  auto opened = Environment::open(directory.path(), capacity);
  if (!opened) return opened.error();
  environment = std::move(*opened);
  return {};
}

Result<void> Store::Inside::make_store(Manifest& manifest) {
  manifest.page_bytes = static_cast<std::uint64_t>(system_page_bytes());
  manifest.capacity = usable_capacity(settings.capacity_bytes, manifest.page_bytes);
  if (auto begun = directory.begin_store(manifest); !begun) return begun;
  if (auto opened = open_environment(manifest.capacity); !opened) return opened;

  Transaction first(*environment, Transaction::Access::write);
  std::string format;
  append_big(format, kManifestFormat);
  first.put(meta_key("format"), format);
  first.put(meta_key("agent"), settings.agent);
  first.put(epoch_key(0), encode_epoch({draw<Epoch>(), Digest{}, {}}));
  auto code = first.commit();
  if (code == 0) code = environment->sync();
  if (code != 0) {
    std::string what = fmt::format("{}: cannot make the store: {}", directory.path().string(), text_of(code));
    return may_be_full_disk(code) ? full(std::move(what)) : broken(std::move(what));
  }
  return directory.finish_store();
}

Result<void> Store::Inside::load() {
  Transaction snapshot(*environment, Transaction::Access::read);
  auto format = snapshot.get(meta_key("format"));
  if (!format || format->size() != 4) return unreadable_row(directory, "format");
  if (auto found = load_big<std::uint32_t>(format->data()); found != kManifestFormat) {
    return rejected(fmt::format("{}: format {}, this program knows format {} only", directory.path().string(), found,
                                kManifestFormat));
  }
  for (std::uint16_t i = 0;; ++i) {
    auto name = snapshot.get(lane_key(Lane{i}));
    if (!name) break;
    LaneState lane;
    lane.name = std::string(*name);
    for (const auto& known : settings.lanes) {
      if (known.name == lane.name) lane.priority = known.priority;
    }
    state.lanes.push_back(std::move(lane));
  }
  for (std::uint32_t i = 0;; ++i) {
    auto value = snapshot.get(epoch_key(i));
    if (!value) break;
    auto row = parse_epoch(*value);
    if (!row) return unreadable_row(directory, fmt::format("epoch {}", i));
    state.epochs.push_back({row->epoch, by_name(row->first, state.lanes), row->forked_from});
  }
  if (state.epochs.empty()) return unreadable_row(directory, "epoch 0");
  if (auto loaded = load_marks(snapshot); !loaded) return loaded;
  if (snapshot.code() != 0) return distrust(snapshot.code(), directory.path().string());
  state.snapshot = snapshot.snapshot();
  return {};
}

Result<void> Store::Inside::load_marks(Transaction& snapshot) {
  for (std::size_t i = 0; i < state.lanes.size(); ++i) {
    auto value = snapshot.get(marks_key(Lane{static_cast<std::uint16_t>(i)}));
    if (!value) continue;  // nothing was ever numbered in it
    auto marks = parse_marks(*value);
    if (!marks) return unreadable_row(directory, "marks of " + state.lanes[i].name);
    state.lanes[i].marks = *marks;
    state.lanes[i].durable = marks->last;
    state.lanes[i].stored_delivered = marks->delivered;
    state.more_to_delete |= marks->dropped < marks->delivered;
  }

  Cursor cursor(snapshot);
  std::string prefix = meta_key("run");
  bool first = true;
  for (bool more = cursor.seek(prefix); more && cursor.key().substr(0, prefix.size()) == prefix; more = cursor.next()) {
    auto row = parse_run(cursor.value());
    if (!row || cursor.key().size() != prefix.size() + 4) return unreadable_row(directory, "run");
    if (first) state.first_run = load_big<std::uint32_t>(cursor.key().data() + prefix.size());
    first = false;
    state.runs.push_back({row->run, row->epoch, by_name(row->first, state.lanes)});
  }
  prefix = meta_key("ledger");
  for (bool more = cursor.seek(prefix); more && cursor.key().substr(0, prefix.size()) == prefix; more = cursor.next()) {
    if (cursor.key().size() != prefix.size() + 8) continue;
    auto entry = parse_ledger_entry(cursor.value());
    if (!entry) return unreadable_row(directory, "ledger");
    state.ledger.load(load_big<std::uint64_t>(cursor.key().data() + prefix.size()), *entry);
  }
  if (auto last = snapshot.get(meta_key("ledger_last")); last && last->size() == 8) {
    state.ledger.load_last_number(load_big<std::uint64_t>(last->data()));
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
    state.lanes.push_back({lane.name, lane.priority, {}, {}, {}});
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
    auto code = change.commit();
    if (code == 0) code = environment->sync();
    if (code != 0) {
      std::string what = fmt::format("{}: {}", directory.path().string(), text_of(code));
      return map_is_full(code) || may_be_full_disk(code) ? full(std::move(what)) : broken(std::move(what));
    }
    state.snapshot = snapshot;
  }

  RunEntry present{draw<Run>(), state.epochs.back().epoch, {}};
  for (const auto& lane : state.lanes) present.first[lane.name] = lane.marks.last.next();
  state.runs.push_back(std::move(present));
  packers.resize(state.lanes.size());
  coder = std::make_unique<BlockCoder>(settings.compression_level, environment->value_bytes());
  return {};
}

}  // namespace penstock
