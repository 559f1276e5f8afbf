#include "agent/kafka/template.h"

#include <fmt/format.h>

#include <algorithm>

namespace penstock {

Result<Template> Template::parse(std::string_view text) {
  Template result;
  std::string plain;
  auto end_plain = [&] {
    if (!plain.empty()) result.pieces_.push_back({Part::text, plain});
    plain.clear();
  };
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '}') return rejected(fmt::format("template \"{}\": column {}: }} without {{", text, at + 1));
    if (text[at] != '{') {
      plain += text[at];
      continue;
    }
    auto close = text.find('}', at);
    if (close == std::string_view::npos) {
      return rejected(fmt::format("template \"{}\": column {}: {{ without }}", text, at + 1));
    }
    auto name = text.substr(at + 1, close - at - 1);
    Part part = Part::text;
    if (name == "agent") part = Part::agent;
    if (name == "driver") part = Part::driver;
    if (name == "stream") part = Part::stream;
    if (name == "lane") part = Part::lane;
    if (name == "key") part = Part::key;
    if (part == Part::text) {
      return rejected(
          fmt::format("template \"{}\": column {}: unknown name \"{}\", expected agent, driver, stream, lane or key",
                      text, at + 1, name));
    }
    end_plain();
    result.pieces_.push_back({part, {}});
    at = close;
  }
  end_plain();
  return result;
}

void Template::expand(const TemplateFields& fields, std::string& out) const {
  out.clear();
  for (const auto& piece : pieces_) {
    switch (piece.part) {
      case Part::text: out += piece.text; break;
      case Part::agent: out += fields.agent; break;
      case Part::driver: out += fields.driver; break;
      case Part::stream: out += fields.stream; break;
      case Part::lane: out += fields.lane; break;
      case Part::key: out += fields.key; break;
    }
  }
}

bool Template::varies_by_record() const {
  return std::any_of(pieces_.begin(), pieces_.end(), [](const Piece& piece) {
    return piece.part == Part::driver || piece.part == Part::stream || piece.part == Part::key;
  });
}

void make_topic_name(std::string& name) {
  if (name.size() > kTopicNameLimit) name.resize(kTopicNameLimit);
  for (char& c : name) {
    bool legal =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    if (!legal) c = c == '/' ? '.' : '_';
  }
  if (name.empty()) name = "_";
  if (name == "." || name == "..") name.insert(name.begin(), '_');
  if (name == kCheckpointTopic || name == kGapTopic) name += '_';
}

}  // namespace penstock
