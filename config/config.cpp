#include "config/config.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <system_error>

#include "config/checks.h"

namespace penstock {
namespace {

const Section& section(std::string_view name) {
  const auto& all = sections();
  return *std::find_if(all.begin(), all.end(), [&](const Section& one) { return one.name == name; });
}

/// Reads one file's tree; every function adds its problems to `reading`.
class Loader {
 public:
  Loader(const Value& root, const std::vector<DriverKind>& kinds, Reading& reading)
      : root_(root), kinds_(kinds), reading_(reading) {}

  Settings load() {
    Settings settings;
    unknown_sections();
    settings.agent = one<AgentSettings>("agent");
    settings.buffer = one<BufferSettings>("buffer");
    lanes(settings.lanes);
    settings.kafka = one<KafkaSettings>("kafka");
    settings.http = one<HttpSettings>("http");
    drivers(settings.drivers);
    for (auto& driver : settings.drivers) driver.agent = settings.agent.id;
    check_together(settings, root_, reading_);
    return settings;
  }

 private:
  void problem(Place place, std::string what) { reading_.problems.push_back({place, std::move(what)}); }

  void unknown_sections() {
    std::vector<std::string> names;
    for (const auto& known : sections()) names.push_back(known.name);
    for (const auto& member : root_.members) {
      if (std::find(names.begin(), names.end(), member.name) != names.end()) continue;
      auto near = nearest(member.name, names);
      auto home = reading_.homes.find(member.name);
      std::string hint = near                           ? fmt::format("did you mean \"{}\"?", *near)
                         : home != reading_.homes.end() ? fmt::format("it belongs to [{}]", home->second)
                                                        : fmt::format("expected one of {}", fmt::join(names, ", "));
      problem(member.place, fmt::format("{} is not a section of Penstock, {}", member.name, hint));
    }
  }

  /// The section's table; nothing when it is missing or, with a problem, when it is no table.
  const Value* table(const std::string& name) {
    const Member* member = root_.find(name);
    if (member == nullptr) return nullptr;
    if (member->value.type == Value::Type::table) return &member->value;
    problem(member->value.place, fmt::format("{} is {}, expected a table [{}{}]", name, member->value.described(), name,
                                             section(name).named ? ".NAME" : ""));
    return nullptr;
  }

  template <class S>
  S one(const std::string& name) {
    static const Value kMissing;
    const Value* found = table(name);
    if (found == nullptr && root_.find(name) != nullptr) return {};
    AnySettings read = section(name).keys.read(found != nullptr ? *found : kMissing, name, reading_, {});
    return *read.template as<S>();
  }

  /// The tables of [name.*] whose name is right.
  std::vector<const Member*> named_tables(const std::string& name) {
    std::vector<const Member*> tables;
    const Value* all = table(name);
    if (all == nullptr) return tables;
    for (const auto& member : all->members) {
      if (auto expected = name_check(member.name); !expected.empty()) {
        Value shown;
        shown.type = Value::Type::string, shown.written = member.name;
        problem(member.place,
                fmt::format("the name {} in {} is not possible, expected {}", shown.described(), name, expected));
      } else if (member.value.type != Value::Type::table) {
        problem(member.value.place,
                fmt::format("{0}.{1} is {2}, expected a table [{0}.{1}]", name, member.name, member.value.described()));
      } else {
        tables.push_back(&member);
      }
    }
    return tables;
  }

  void lanes(std::vector<LaneSection>& lanes) {
    const Member* given = root_.find("lanes");
    if (given == nullptr) return;
    lanes.clear();
    for (const Member* member : named_tables("lanes")) {
      if (member->name == "gaps" || member->name == "checkpoints") {
        problem(member->place, fmt::format("the lane name \"{}\" is Penstock's own, expected another", member->name));
      }
      auto read = section("lanes").keys.read(member->value, "lanes." + member->name, reading_, {});
      lanes.push_back(*read.as<LaneSection>());
      lanes.back().name = member->name;
    }
    if (given->value.type != Value::Type::table || given->value.members.empty()) lanes = Settings{}.lanes;
    double shares = 0;
    for (const auto& lane : lanes) shares += lane.share;
    if (shares > 100)
      problem(given->value.place, fmt::format("the shares of all lanes are {}%, expected at most 100%", shares));
    if (lanes.size() > 64)
      problem(given->value.place, fmt::format("lanes has {} lanes, expected at most 64", lanes.size()));
  }

  void drivers(std::vector<DriverSection>& drivers) {
    const auto& common = section("drivers").keys;
    std::vector<std::string> common_names;
    for (const auto& key : common.keys) common_names.push_back(key.name);
    for (const Member* member : named_tables("drivers")) {
      auto path = "drivers." + member->name;
      if (member->name == "penstock") {
        problem(member->place, "the driver name \"penstock\" is Penstock's own, expected another");
      }
      std::vector<std::string> all_names;
      for (const auto& key : member->value.members) all_names.push_back(key.name);
      auto read = common.read(member->value, path, reading_, unknown_to(common, all_names));
      DriverSection driver = *read.as<DriverSection>();
      driver.name = member->name;
      if (const DriverKind* kind = kind_of(driver, member->value, path)) {
        driver.settings = kind->keys.read(member->value, path, reading_, common_names);
      }
      drivers.push_back(std::move(driver));
    }
    const Member* given = root_.find("drivers");
    if (reading_.whole &&
        (given == nullptr || (given->value.type == Value::Type::table && given->value.members.empty()))) {
      problem(given != nullptr ? given->value.place : root_.place,
              "drivers is empty, expected at least one table [drivers.NAME] with a type");
    }
  }

  static std::vector<std::string> unknown_to(const KeyTable& table, const std::vector<std::string>& names) {
    std::vector<std::string> others;
    for (const auto& name : names) {
      bool known = std::any_of(table.keys.begin(), table.keys.end(), [&](const Key& key) { return key.name == name; });
      if (!known) others.push_back(name);
    }
    return others;
  }

  const DriverKind* kind_of(const DriverSection& driver, const Value& table, const std::string& path) {
    const Member* type = table.find("type");
    if (type == nullptr || type->value.type != Value::Type::string || type->value.unresolved)
      return nullptr;  // has been said
    std::vector<std::string> names;
    for (const auto& kind : kinds_) {
      if (kind.name == driver.type) return &kind;
      names.push_back(kind.name);
    }
    auto near = nearest(driver.type, names);
    problem(type->value.place,
            fmt::format("{}.type is {}, expected one of {}{}", path, type->value.described(), fmt::join(names, ", "),
                        near ? fmt::format(", did you mean \"{}\"?", *near) : ""));
    return nullptr;
  }

  const Value& root_;
  const std::vector<DriverKind>& kinds_;
  Reading& reading_;
};

void sort_by_place(std::vector<Problem>& problems) {
  std::stable_sort(problems.begin(), problems.end(),
                   [](const Problem& a, const Problem& b) { return a.place < b.place; });
}

}  // namespace

std::string Loaded::report() const {
  std::string text;
  for (const auto& one : problems)
    text += fmt::format("{}:{}:{}: {}\n", file, one.place.line, one.place.column, one.what);
  for (const auto& one : warnings) {
    text += fmt::format("{}:{}:{}: warning: {}\n", file, one.place.line, one.place.column, one.what);
  }
  return text;
}

Loaded load_text(std::string_view text, const FileFacts& facts, const std::vector<DriverKind>& kinds,
                 const Variables& environment) {
  auto parsed = parse_toml(text, environment);
  Reading reading;
  reading.directory = facts.directory;
  reading.readable_by_all = facts.readable_by_all;
  reading.whole = parsed.whole;
  reading.problems = std::move(parsed.problems);
  for (const auto& known : sections()) {
    if (known.named) continue;
    for (const auto& key : known.keys.keys) reading.homes.emplace(key.name, known.name);
  }
  Loaded loaded;
  loaded.file = facts.name;
  loaded.settings = Loader(parsed.root, kinds, reading).load();
  loaded.problems = std::move(reading.problems);
  loaded.warnings = std::move(reading.warnings);
  sort_by_place(loaded.problems);
  sort_by_place(loaded.warnings);
  return loaded;
}

Loaded load(const std::filesystem::path& file, const std::vector<DriverKind>& kinds, const Variables& environment) {
  FileFacts facts;
  facts.name = file.string();
  facts.directory = file.parent_path();
  auto cannot = [&](const std::string& why) {
    Loaded loaded;
    loaded.file = facts.name;
    loaded.problems.push_back({{1, 1}, "the file cannot be read: " + why});
    return loaded;
  };
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) return cannot(std::generic_category().message(errno));
  if (S_ISDIR(info.st_mode)) return cannot("it is a directory");
  facts.readable_by_all = (info.st_mode & S_IROTH) != 0;
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  if (!in) return cannot(std::generic_category().message(errno));
  std::string text;
  constexpr std::size_t kMost = (1 << 20) + 1;  // parse_toml says that more is too much
  text.resize(kMost);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (in.bad()) return cannot(std::generic_category().message(errno));
  return load_text(text, facts, kinds, environment);
}

}  // namespace penstock
