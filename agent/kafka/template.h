// Template: the topic or key of a record, made from a text with {agent} {driver} {stream} {lane} {key}.
//
// Plain values and pure functions; safe in any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/result.h"

namespace penstock {

struct TemplateFields {
  std::string_view agent, driver, stream, lane, key;
};

class Template {
 public:
  /// `rejected`: an unknown name in braces, or a brace without its partner; the text says at which column.
  static Result<Template> parse(std::string_view text);

  /// Replaces what is in `out`.
  void expand(const TemplateFields& fields, std::string& out) const;

  /// True if any field but {agent} and {lane} is used: then the result varies from record to record.
  bool varies_by_record() const;

 private:
  enum class Part { text, agent, driver, stream, lane, key };
  struct Piece {
    Part part = Part::text;
    std::string text;
  };
  std::vector<Piece> pieces_;
};

/// Kafka takes letters, digits, `.`, `_` and `-`, at most 249 of them: `/` becomes `.`, every other byte `_`, the rest is
/// cut. What would be empty, `.` or `..` becomes `_`, `_.` and `_..`; our own two topics get a `_` behind their name.
void make_topic_name(std::string& name);

inline constexpr std::size_t kTopicNameLimit = 249;
inline constexpr const char* kCheckpointTopic = "penstock.checkpoints";
inline constexpr const char* kGapTopic = "penstock.gaps";

}  // namespace penstock
