#include "agent/daemon/http.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <system_error>
#include <utility>

namespace penstock {
namespace {

#if MHD_VERSION >= 0x00097002
using MhdAnswer = MHD_Result;
#else
using MhdAnswer = int;
#endif

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  std::string host;  // as it is written before the colon
};

Result<SocketAddress> parse_address(const std::string& listen) {
  auto wrong = [&] {
    return rejected(fmt::format("\"{}\" is no address to listen on: expected 127.0.0.1:9464 or [::1]:9464", listen));
  };
  auto colon = listen.rfind(':');
  if (colon == std::string::npos) return wrong();
  std::uint16_t port = 0;
  const char* end = listen.data() + listen.size();
  auto [stopped, error] = std::from_chars(listen.data() + colon + 1, end, port);
  if (error != std::errc() || stopped != end || colon + 1 == listen.size()) return wrong();

  SocketAddress address;
  address.host = listen.substr(0, colon);
  std::string host = address.host == "localhost" ? "127.0.0.1" : address.host;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    if (inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &v6->sin6_addr) != 1) return wrong();
    address.length = sizeof(sockaddr_in6);
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) != 1) return wrong();
    address.length = sizeof(sockaddr_in);
  }
  return address;
}

}  // namespace

struct HttpServer::Inside {
  Handler handler;
  MHD_Daemon* daemon = nullptr;
  std::string address;

  static MhdAnswer answer(void* self, MHD_Connection* connection, const char* url, const char* method, const char*,
                          const char*, std::size_t*, void**) {
    HttpAnswer made;
    if (std::strcmp(method, MHD_HTTP_METHOD_GET) == 0 || std::strcmp(method, MHD_HTTP_METHOD_HEAD) == 0) {
      made = static_cast<Inside*>(self)->handler(url);
    } else {
      made = {405, "text/plain; charset=utf-8", "only GET\n"};
    }
    MHD_Response* response = MHD_create_response_from_buffer(made.body.size(), made.body.data(), MHD_RESPMEM_MUST_COPY);
    if (response == nullptr) return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, made.content_type.c_str());
    MhdAnswer queued = MHD_queue_response(connection, static_cast<unsigned>(made.status), response);
    MHD_destroy_response(response);
    return queued;
  }
};

HttpServer::HttpServer(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}

HttpServer::~HttpServer() {
  if (inside_->daemon != nullptr) MHD_stop_daemon(inside_->daemon);
}

const std::string& HttpServer::address() const { return inside_->address; }

Result<std::unique_ptr<HttpServer>> HttpServer::open(const std::string& listen, Handler handler) {
  auto address = parse_address(listen);
  if (!address) return address.error();

  // Our own socket: MHD says only that it could not start, a bind says why.
  int descriptor = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto failed = [&](const char* what) {
    int error = errno;
    if (descriptor >= 0) close(descriptor);
    return transient(fmt::format("http: cannot {} {}: {}", what, listen, std::generic_category().message(error)));
  };
  if (descriptor < 0) return failed("make a socket for");
  int on = 1;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  auto* any = reinterpret_cast<sockaddr*>(&address->storage);
  if (bind(descriptor, any, address->length) != 0) return failed("listen on");
  if (::listen(descriptor, 16) != 0) return failed("listen on");
  if (getsockname(descriptor, any, &address->length) != 0) return failed("find the port of");
  auto port = address->storage.ss_family == AF_INET6
                  ? ntohs(reinterpret_cast<sockaddr_in6*>(&address->storage)->sin6_port)
                  : ntohs(reinterpret_cast<sockaddr_in*>(&address->storage)->sin_port);

  auto inside = std::make_unique<Inside>();
  inside->handler = std::move(handler);
  inside->address = fmt::format("{}:{}", address->host, port);
  // The last argument list is C's: each option, its value, and an end.
  inside->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ITC, 0, nullptr, nullptr, &Inside::answer,
                                    inside.get(), MHD_OPTION_LISTEN_SOCKET, descriptor, MHD_OPTION_CONNECTION_LIMIT,
                                    16U, MHD_OPTION_CONNECTION_TIMEOUT, 10U, MHD_OPTION_END);
  if (inside->daemon == nullptr) return failed("serve");
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(inside)));
}

}  // namespace penstock
