// HttpServer: answers GET on one loopback port. Read-only; for Prometheus, probes and people.
//
// One thread of its own; the handler runs in it and must not wait. At most 16 connections, each closed after 10 s of
// silence. A crash leaves nothing.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "buffer/result.h"

namespace penstock {

struct HttpAnswer {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

class HttpServer {
 public:
  using Handler = std::function<HttpAnswer(std::string_view path)>;

  /// `listen` is host:port or [v6]:port, the host an address of this machine; port 0: any free one.
  /// `transient`: the port is in use. `rejected`: no address.
  static Result<std::unique_ptr<HttpServer>> open(const std::string& listen, Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// host:port, with the port it really has.
  const std::string& address() const;

 private:
  struct Inside;
  explicit HttpServer(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

}  // namespace penstock
