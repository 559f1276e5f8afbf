#include "drivers/mqtt/own_peer.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <system_error>

namespace penstock::mqtt {
namespace {

struct End {
  in_addr_t address = 0;
  in_port_t port = 0;
  bool operator==(const End&) const = default;
};

template <class Ask>
std::optional<End> end_of(int descriptor, Ask ask) {
  sockaddr_in name{};
  socklen_t length = sizeof name;
  if (ask(descriptor, reinterpret_cast<sockaddr*>(&name), &length) != 0 || name.sin_family != AF_INET) return {};
  return End{name.sin_addr.s_addr, name.sin_port};
}

}  // namespace

Result<bool> peer_is_this_process(int accepted) {
  auto here = end_of(accepted, getsockname), there = end_of(accepted, getpeername);
  if (!here || !there) return false;  // it has gone already

  std::error_code error;
  std::filesystem::directory_iterator descriptors("/proc/self/fd", error);
  if (error) return broken(fmt::format("cannot read /proc/self/fd: {}", error.message()));
  for (auto each = begin(descriptors); each != end(descriptors); each.increment(error)) {
    if (error) return broken(fmt::format("cannot read /proc/self/fd: {}", error.message()));
    const std::string name = each->path().filename().string();
    int descriptor = -1;
    std::from_chars(name.data(), name.data() + name.size(), descriptor);
    if (descriptor < 0 || descriptor == accepted) continue;
    // Fails without harm for what is no socket.
    if (end_of(descriptor, getsockname) == there && end_of(descriptor, getpeername) == here) return true;
  }
  return false;
}

}  // namespace penstock::mqtt
