#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "config/generate.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kVariable = R"(.*\$\{[A-Za-z0-9_]+\}.*)";  // stands for what only the environment knows
constexpr const char* kName = "^[A-Za-z0-9._-]{1,64}$";

Json text_like(const std::string& pattern) {
  return {{"type", "string"}, {"pattern", fmt::format("^({}|{})$", pattern, kVariable)}};
}

Json object_of(const std::vector<Key>& keys);

Json schema_of(const Key& key) {
  Json schema;
  switch (key.type) {
    case KeyType::string: schema = {{"type", "string"}}; break;
    case KeyType::boolean: schema = {{"type", "boolean"}}; break;
    case KeyType::integer:
    case KeyType::floating:
      schema = {{"type", key.type == KeyType::integer ? "integer" : "number"}};
      if (key.least) schema["minimum"] = *key.least;
      if (key.most) schema["maximum"] = *key.most;
      break;
    case KeyType::duration: schema = text_like("[0-9]+(us|ms|s|m|h|d)"); break;
    case KeyType::size: schema = text_like("[0-9]+(B|KiB|MiB|GiB|TiB)"); break;
    case KeyType::rate: schema = text_like("[0-9]+(B|KiB|MiB|GiB|TiB)/s"); break;
    case KeyType::percentage: schema = text_like(R"([0-9]+(\.[0-9]+)?%)"); break;
    case KeyType::choice: schema = {{"type", "string"}, {"enum", key.choices}}; break;
    case KeyType::strings: schema = {{"type", "array"}, {"items", {{"type", "string"}}}}; break;
    case KeyType::string_table:
      // Dotted keys make tables within it.
      schema = {{"type", "object"}, {"additionalProperties", {{"type", {"string", "number", "boolean", "object"}}}}};
      break;
    case KeyType::tables: schema = {{"type", "array"}, {"items", object_of(key.keys)}}; break;
    case KeyType::secret: {
      Json file = {{"type", "object"},
                   {"properties", {{"file", {{"type", "string"}}}}},
                   {"required", Json::array({"file"})},
                   {"additionalProperties", false}};
      schema = {{"anyOf", Json::array({Json{{"type", "string"}}, file})}};
      break;
    }
  }
  schema["description"] = key.doc;
  if (!key.fallback.empty()) schema["default"] = key.fallback;
  return schema;
}

Json object_of(const std::vector<Key>& keys) {
  Json properties = Json::object(), required = Json::array();
  for (const auto& key : keys) {
    properties[key.name] = schema_of(key);
    if (key.required) required.push_back(key.name);
  }
  return {{"type", "object"}, {"properties", properties}, {"required", required}, {"additionalProperties", false}};
}

Json named(const std::string& doc, const Json& each) {
  return {{"type", "object"},
          {"description", doc},
          {"propertyNames", {{"pattern", kName}}},
          {"additionalProperties", each}};
}

}  // namespace

std::string json_schema(const std::vector<DriverKind>& kinds) {
  Json properties = Json::object();
  for (const auto& section : sections()) {
    Json each = object_of(section.keys.keys);
    if (section.name == "drivers") {
      Json types = Json::array();
      for (const auto& kind : kinds) {
        auto keys = section.keys.keys;
        keys.insert(keys.end(), kind.keys.keys.begin(), kind.keys.keys.end());
        Json one = object_of(keys);
        one["description"] = kind.summary;
        one["properties"]["type"] = {{"const", kind.name}};
        types.push_back(one);
      }
      each = {{"oneOf", types}};
    }
    if (section.named) {
      properties[section.name] = named(section.doc, each);
    } else {
      each["description"] = section.doc;
      properties[section.name] = each;
    }
  }
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                 {"title", "Penstock configuration"},
                 {"type", "object"},
                 {"properties", properties},
                 {"required", Json::array({"agent", "kafka", "drivers"})},
                 {"additionalProperties", false}};
  return schema.dump(2) + "\n";
}

}  // namespace penstock
