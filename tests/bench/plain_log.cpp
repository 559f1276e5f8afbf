#include "tests/bench/plain_log.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>
#include <zstd.h>

#include <cstring>

#include "tests/bench/measure.h"

namespace penstock::bench {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHeader = 32;  // room for what a frame must say: magic, lengths, sequences, checksum

void put_number(std::vector<char>& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void put_text(std::vector<char>& out, const std::string& text) {
  put_number(out, text.size());
  out.insert(out.end(), text.begin(), text.end());
}

}  // namespace

struct PlainLog::Codec {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ~Codec() { ZSTD_freeCCtx(context); }
};

PlainLog::PlainLog(const std::filesystem::path& file, Shape shape, std::uint64_t ring_bytes)
    : file_(file), shape_(shape), ring_bytes_(ring_bytes), codec_(std::make_unique<Codec>()) {
  descriptor_ = open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (descriptor_ < 0) give_up(fmt::format("cannot create {}: {}", file.string(), std::strerror(errno)));
  if (shape_ == Shape::growing) return;
  std::vector<char> zeros(1 << 20);
  for (std::uint64_t written = 0; written < ring_bytes_; written += zeros.size()) {
    if (pwrite(descriptor_, zeros.data(), zeros.size(), static_cast<off_t>(written)) !=
        static_cast<ssize_t>(zeros.size())) {
      give_up(fmt::format("cannot write {}: {}", file.string(), std::strerror(errno)));
    }
  }
  fsync(descriptor_);
}

PlainLog::~PlainLog() {
  close(descriptor_);
  std::error_code ignored;
  std::filesystem::remove(file_, ignored);
}

void PlainLog::encode(std::span<const Record> records) {
  raw_.resize(kHeader);
  for (const auto& record : records) {
    put_number(raw_, static_cast<std::uint64_t>(record.time.time_since_epoch().count()));
    put_text(raw_, record.driver);
    put_text(raw_, record.stream);
    put_text(raw_, record.payload);
  }
  if (shape_ == Shape::growing) {
    length_ = raw_.size();
    stored_ += length_;
    return;
  }
  std::size_t most = kHeader + ZSTD_compressBound(raw_.size()) + kPage;
  if (frame_.size() < most) frame_.resize(most);
  auto packed = ZSTD_compressCCtx(codec_->context, frame_.data() + kHeader, most - kHeader, raw_.data() + kHeader,
                                  raw_.size() - kHeader, 1);
  if (ZSTD_isError(packed)) give_up(fmt::format("zstd: {}", ZSTD_getErrorName(packed)));
  std::size_t used = kHeader + packed;
  stored_ += used;
  length_ = (used + kPage - 1) / kPage * kPage;
  std::memset(frame_.data() + used, 0, length_ - used);
}

void PlainLog::commit(std::span<const Record> records) {
  encode(records);
  if (shape_ == Shape::prewritten && at_ + length_ > ring_bytes_) at_ = 0;
  const auto& bytes = shape_ == Shape::growing ? raw_ : frame_;
  if (pwrite(descriptor_, bytes.data(), length_, static_cast<off_t>(at_)) != static_cast<ssize_t>(length_) ||
      fdatasync(descriptor_) != 0) {
    give_up(fmt::format("cannot write {}: {}", file_.string(), std::strerror(errno)));
  }
  at_ += length_;
}

}  // namespace penstock::bench
