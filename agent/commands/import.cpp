// penstock import: files of historical data into the queue, each row once, however often it is interrupted.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/commands/access.h"
#include "agent/commands/command.h"
#include "agent/demo/view.h"
#include "agent/queue/import_desk.h"
#include "agent/queue/import_file.h"
#include "config/config.h"
#include "drivers/table.h"

namespace penstock {
namespace {

constexpr std::size_t kChunkRecords = 2'000;
constexpr std::size_t kChunkBytes = 256 << 10;
constexpr std::chrono::milliseconds kTryAgain{500};

struct ImportOptions {
  QueuePlace place;
  std::vector<std::string> files;
  std::string lane;
  ImportFormat format;
  bool skip_bad = false, dry_run = false, again = false, progress = false;
};

/// How far one file has come.
enum class End { whole, stopped_at_bad, interrupted, failed };

class FileImport {
 public:
  FileImport(QueueAccess& queue, const ImportOptions& options, Signals& signals, ProgressLine& progress)
      : queue_(queue), options_(options), signals_(signals), progress_(progress) {}

  End run(const std::string& path) {
    path_ = path;
    auto begun = begin();
    if (!begun) return failed(begun.error().what);
    End end = End::whole;
    while (true) {
      if (interrupted(signals_)) {
        end = End::interrupted;
        break;
      }
      auto more = chunk(end);
      if (!more) return failed(more.error().what);
      show();
      if (!*more) break;
    }
    conclude(end);
    return end;
  }

 private:
  using AnswerJson = nlohmann::json;

  Result<AnswerJson> ask(const std::string& command, const std::string& request) {
    auto answer = queue_.ask(command, request);
    if (!answer) return answer.error();
    auto json = AnswerJson::parse(*answer, nullptr, false);
    if (!json.is_object()) return rejected("the answer cannot be understood: " + answer->substr(0, 200));
    return json;
  }

  /// Opens the file and finds where it was left off.
  Result<void> begin() {
    auto format = options_.format;
    auto named = ImportFile::open(path_, format);
    if (!named) return named.error();
    auto json = ask("import.begin", AnswerJson{{"command", "import.begin"}, {"file", (*named)->name()}}.dump());
    if (!json) return json.error();
    format.max_record_bytes = json->value("max_record_bytes", format.max_record_bytes);
    auto file = ImportFile::open(path_, format);
    if (!file) return file.error();
    file_ = std::move(*file);
    for (const auto& lane : json->at("lanes")) lanes_.push_back(lane.get<std::string>());
    if (!options_.lane.empty() && !known(options_.lane)) return rejected("there is no lane \"" + options_.lane + "\"");

    if (auto kept = json->find("position"); kept != json->end() && kept->is_string()) {
      kept_ = kept->get<std::string>();
      if (options_.again) {
        file_->begin_again(*kept_);
      } else {
        auto same = file_->go_on(*kept_);
        if (!same) return same.error();
        if (!*same)
          progress_.say(path_ + ": another file of this name was imported before; this one from its beginning");
      }
    }
    began_ = file_->place();
    accepted_ = began_;
    return {};
  }

  bool known(const std::string& lane) const { return std::find(lanes_.begin(), lanes_.end(), lane) != lanes_.end(); }

  Result<std::string> lane_of(const ReadLine& row) const {
    if (!options_.lane.empty()) return options_.lane;
    if (!row.lane.empty() && !known(row.lane)) {
      return rejected(fmt::format("there is no lane \"{}\"; --lane would choose one", row.lane));
    }
    if (!row.lane.empty()) return row.lane;
    return known("telemetry") ? std::string("telemetry") : lanes_.front();
  }

  /// Reads and stores a few rows; false when that was the last of it.
  Result<bool> chunk(End& end) {
    ImportRequest request{file_->name(), {}, kept_, {}, {}};
    std::size_t bytes = 0;
    ImportFile::Place upto = accepted_;
    bool more = true;
    while (more && request.records.size() < kChunkRecords && bytes < kChunkBytes) {
      if (!ahead_) {
        auto next = file_->next();
        if (!next) return next.error();
        ahead_ = std::move(*next);
      }
      if (ahead_->what == ImportFile::Next::What::end) {
        more = false;
        break;
      }
      if (ahead_->what == ImportFile::Next::What::record) {
        auto lane = lane_of(ahead_->row);
        if (!lane) {
          ahead_->what = ImportFile::Next::What::bad;
          ahead_->problem = fmt::format("{}:{}: {}", path_, file_->place().line - 1, lane.error().what);
        } else if (request.records.empty()) {
          request.lane = *lane;
        } else if (*lane != request.lane) {
          break;  // begins the next request
        }
      }
      if (ahead_->what == ImportFile::Next::What::bad) {
        progress_.say(ahead_->problem);
        if (!options_.skip_bad) {
          end = End::stopped_at_bad;
          more = false;
          break;
        }
        ++skipped_;
      } else {
        bytes += ahead_->row.record.bytes();
        request.records.push_back(std::move(ahead_->row.record));
      }
      ahead_.reset();
      upto = file_->place();
    }
    if (upto.offset == accepted_.offset) return more;
    if (request.lane.empty()) request.lane = options_.lane.empty() ? lanes_.front() : options_.lane;
    request.to = file_->position(upto);
    auto stored = store(request);
    if (!stored) return stored.error();
    if (!*stored) {
      end = End::interrupted;
      return false;
    }
    kept_ = request.to;
    records_ += request.records.size();
    accepted_ = upto;
    return more;
  }

  /// Until it is on disk; false: interrupted before.
  Result<bool> store(const ImportRequest& request) {
    auto line = write_request(request);
    std::string told;
    while (true) {
      auto answer = ask("import", line);
      if (!answer) return answer.error();
      if (answer->contains("stored")) return true;
      auto wait = answer->value("wait", std::string());
      if (wait.empty()) return rejected("the answer cannot be understood: " + answer->dump().substr(0, 200));
      if (!queue_.running()) return full(wait + "; no agent runs that could empty it");
      if (wait != told) progress_.say("waiting: " + wait);
      told = wait;
      if (signals_.wait(kTryAgain) == Signals::Kind::stop) return false;
    }
  }

  void show() {
    if (!progress_.due()) return;
    auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - since_).count();
    auto share =
        file_->size() == 0 ? 100.0 : 100.0 * static_cast<double>(accepted_.offset) / static_cast<double>(file_->size());
    progress_.show(fmt::format("{}: {:.0f} % of {} bytes, {} records, {}/s", path_, std::min(share, 100.0),
                               grouped(file_->size()), grouped(records_),
                               grouped(static_cast<std::uint64_t>(static_cast<double>(records_) / seconds))));
  }

  void conclude(End end) {
    std::string text = fmt::format("{}: {} records imported", path_, records_);
    if (began_.records != 0) text += fmt::format(" after {} earlier", began_.records);
    if (skipped_ != 0) text += fmt::format(", {} bad ones skipped", skipped_);
    if (end == End::interrupted) text += "; interrupted: the same command goes on from here";
    if (end == End::stopped_at_bad) text += "; stopped at a bad one: mend it, or go on with --skip-bad";
    fmt::print("{}\n", text);
  }

  End failed(const std::string& what) {
    progress_.say("penstock import: " + what);
    if (file_) {
      fmt::print("{}: {} records imported; failed: the same command goes on from here\n", path_, records_);
    }
    return End::failed;
  }

  QueueAccess& queue_;
  const ImportOptions& options_;
  Signals& signals_;
  ProgressLine& progress_;
  const std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  std::string path_;
  std::unique_ptr<ImportFile> file_;
  std::vector<std::string> lanes_;
  std::optional<std::string> kept_;          // the position on disk
  ImportFile::Place began_, accepted_;       // where this run began; what is on disk
  std::optional<ImportFile::Next> ahead_;    // read, not yet in a request
  std::uint64_t records_ = 0, skipped_ = 0;  // of this run
};

/// Reads it all and stores nothing.
int rehearse(const ImportOptions& options, Signals& signals, ProgressLine& progress) {
  int status = kDone;
  for (const auto& path : options.files) {
    auto file = ImportFile::open(path, options.format);
    if (!file) {
      progress.say("penstock import: " + file.error().what);
      status = kFailed;
      continue;
    }
    std::uint64_t records = 0, bad = 0;
    std::optional<WallTime> first, last;
    while (true) {
      auto next = (*file)->next();
      if (!next) {
        progress.say("penstock import: " + next.error().what);
        status = kFailed;
        break;
      }
      if (next->what == ImportFile::Next::What::end) break;
      if (next->what == ImportFile::Next::What::bad) {
        progress.say(next->problem);
        ++bad;
      } else {
        ++records;
        auto time = next->row.record.time;
        if (time != WallTime{}) {
          first = first ? std::min(*first, time) : time;
          last = last ? std::max(*last, time) : time;
        }
      }
      if ((records + bad) % 1024 == 0 && interrupted(signals)) {
        progress.say("interrupted");
        return kFailed;
      }
      if (progress.due()) progress.show(fmt::format("{}: {} records read", path, grouped(records)));
    }
    if (bad != 0) status = kFailed;
    std::string span = first ? fmt::format(", from {} to {}", time_text(*first), time_text(*last)) : "";
    fmt::print("{}: {} records{}, {} bad ones; nothing was stored\n", path, records, span, bad);
  }
  return status;
}

int import(ImportOptions options) {
  Signals signals;
  ProgressLine progress(options.progress);
  if (options.dry_run) {
    auto loaded = load(options.place.config, driver_kinds());
    if (loaded.ok()) options.format.max_record_bytes = loaded.settings.buffer.max_record_bytes;
    return rehearse(options, signals, progress);
  }
  int refused = kDone;
  auto queue = open_queue(options.place, true, "import", refused);
  if (!queue) return refused;
  for (const auto& path : options.files) {
    FileImport one(*queue, options, signals, progress);
    if (one.run(path) != End::whole) return kFailed;
  }
  return kDone;
}

std::string driver_name(const std::string& name) {
  bool fine =
      !name.empty() && name.size() <= 64 && name != "penstock" &&
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == std::string::npos;
  return fine ? "" : "expected letters, digits, . _ -, at most 64, and not \"penstock\"";
}

std::string separator_text(std::string& text) {
  if (text == "tab" || text == "\\t") text = "\t";
  return text.size() == 1 && text != "\"" && text != "\n" && text != "\r" ? "" : "expected one character, or tab";
}

}  // namespace

void add_import(CLI::App& app, int& status) {
  struct Asked : ImportOptions {
    std::string kind, separator;
    bool utc = false;
  };
  auto asked = std::make_shared<Asked>();  // lives as long as the callback
  auto& fields = asked->format.fields;
  add_place(app, asked->place);
  app.add_option("FILE", asked->files,
                 "CSV with a header row, or a JSON object a line (also what `queue export` wrote)")
      ->required();
  app.add_option("--lane", asked->lane, "into this lane; otherwise the one an exported line names, else telemetry");
  app.add_option("--driver", asked->format.driver,
                 "the records' driver; otherwise what an exported line says, else import")
      ->check(CLI::Validator(driver_name, "NAME"));
  app.add_option("--format", asked->kind, "csv or jsonl; otherwise by the extension: .csv .tsv, .jsonl .ndjson .json")
      ->check(CLI::IsMember({"csv", "jsonl"}));
  app.add_option("--separator", asked->separator, "between the fields of a CSV: one character, or tab (,)")
      ->check(CLI::Validator(separator_text, "CHARACTER"));
  app.add_option("--time-column,--time-field", fields.time, "has the event time: RFC 3339, or unix s, ms, us, ns")
      ->type_name("NAME");
  app.add_flag("--utc", asked->utc, "a time that does not say its zone is UTC");
  app.add_option("--stream", asked->format.stream, "the records' stream; otherwise the file's name, without extension");
  app.add_option("--stream-column,--stream-field", fields.stream, "has the stream")->type_name("NAME");
  app.add_option("--key-column,--key-field", fields.key, "has the key")->type_name("NAME");
  app.add_flag("--skip-bad", asked->skip_bad, "report a row that cannot be read and go on, instead of stopping there");
  app.add_flag("--dry-run", asked->dry_run, "read it all, report, store nothing");
  app.add_flag("--again", asked->again, "from the beginning, whatever was imported before");
  app.add_flag("--progress", asked->progress, "a line each second on stderr, also when that is no terminal");
  app.footer(
      "Every row is a record, once: how far a file was imported is kept with its records, so after a Ctrl-C, a kill or "
      "a\n"
      "power cut the same command goes on. A full queue makes it wait. A field of JSON may be a pointer (/meta/time).\n"
      "The running agent takes the records; when none runs, its store is opened.");
  app.callback([asked, &status] {
    if (asked->kind == "csv") asked->format.kind = ImportFormat::Kind::csv;
    if (asked->kind == "jsonl") asked->format.kind = ImportFormat::Kind::jsonl;
    if (!asked->separator.empty()) asked->format.separator = asked->separator[0];
    if (asked->utc) asked->format.fields.zone = Zone::utc_when_missing;
    status = import(*asked);
  });
}

}  // namespace penstock
