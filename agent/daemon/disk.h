// Disk: the few things the writer and the outlets ask of the store. A seam, because a full or failing disk must be a
// unit test. The words are those of buffer/store.h and mean the same; threads as there.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "buffer/store.h"

namespace penstock {

class Disk {
 public:
  virtual ~Disk() = default;

  // --- the writer's thread
  virtual Result<void> commit(std::span<const Group> groups, std::vector<std::size_t>* left = nullptr) = 0;
  virtual Result<void> settle(const Settlement& settlement) = 0;
  virtual bool wants_commit() const = 0;
  virtual Result<bool> prewrite_step() = 0;

  // --- any thread
  virtual Result<std::optional<std::string>> state(std::string_view driver, std::string_view name) const = 0;
  virtual Result<std::vector<std::pair<std::string, std::string>>> states(std::string_view driver,
                                                                          std::string_view prefix) const = 0;
};

/// The real one.
class StoreDisk final : public Disk {
 public:
  explicit StoreDisk(Store& store) : store_(store) {}

  Result<void> commit(std::span<const Group> groups, std::vector<std::size_t>* left) override {
    return store_.commit(groups, left);
  }
  Result<void> settle(const Settlement& settlement) override { return store_.settle(settlement); }
  bool wants_commit() const override { return store_.wants_commit(); }
  Result<bool> prewrite_step() override { return store_.prewrite_step(); }
  Result<std::optional<std::string>> state(std::string_view driver, std::string_view name) const override {
    return store_.state(driver, name);
  }
  Result<std::vector<std::pair<std::string, std::string>>> states(std::string_view driver,
                                                                  std::string_view prefix) const override {
    return store_.states(driver, prefix);
  }

 private:
  Store& store_;
};

}  // namespace penstock
