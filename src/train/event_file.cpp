#include "train/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <utility>

#include "train/crc32c.h"

namespace sluice {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers go to the file as they are in memory");

template <class T>
void append_raw(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

// A field key of protobuf: its number and how it is encoded.
constexpr char kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;
void append_key(std::string& out, int field, char encoding) {
  out += static_cast<char>((field << 3) | encoding);
}

void append_bytes(std::string& out, int field, std::string_view bytes) {
  append_key(out, field, kBytes);
  append_varint(out, bytes.size());
  out += bytes;
}

// The framing stores CRCs rotated and shifted, so that the CRC of data that hold CRCs stays meaningful.
uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8; }

std::string framed(std::string_view payload) {
  std::string record;
  append_raw(record, static_cast<uint64_t>(payload.size()));
  append_raw(record, masked_crc(record));
  record += payload;
  append_raw(record, masked_crc(payload));
  return record;
}

// Event: 1 wall_time, 2 step, then one of 3 file_version, 5 summary, 7 session_log.
std::string event(double wall_time, std::optional<int64_t> step) {
  std::string message;
  append_key(message, 1, kFixed64);
  append_raw(message, wall_time);
  if (step) {
    append_key(message, 2, kVarint);
    append_varint(message, static_cast<uint64_t>(*step));
  }
  return message;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

// Two files of one process and second need two names.
std::filesystem::path unused_path(const std::filesystem::path& directory, int64_t seconds) {
  const std::string name = fmt::format("events.out.tfevents.{}.{}.{}", seconds, host_name(), ::getpid());
  std::filesystem::path path = directory / name;
  std::error_code ignored;
  for (int number = 1; std::filesystem::exists(path, ignored); ++number) {
    path = directory / fmt::format("{}.{}", name, number);
  }
  return path;
}

}  // namespace

std::string version_record(double wall_time) {
  std::string message = event(wall_time, std::nullopt);
  append_bytes(message, 3, "brain.Event:2");
  return framed(message);
}

std::string session_start_record(int64_t step, double wall_time) {
  constexpr char kStart = 1;
  std::string session;
  append_key(session, 1, kVarint);
  session += kStart;
  std::string message = event(wall_time, step);
  append_bytes(message, 7, session);
  return framed(message);
}

std::string scalar_record(std::string_view tag, float value, int64_t step, double wall_time) {
  std::string point;
  append_bytes(point, 1, tag);
  append_key(point, 2, kFixed32);
  append_raw(point, value);
  std::string summary;
  append_bytes(summary, 1, point);
  std::string message = event(wall_time, step);
  append_bytes(message, 5, summary);
  return framed(message);
}

EventFile::EventFile(const std::filesystem::path& directory, int64_t resume_step) {
  create_directories(directory, ErrorKind::kCheckpoint);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const double wall_time = std::chrono::duration<double>(now).count();
  file_.emplace(unused_path(directory, static_cast<int64_t>(wall_time)), ErrorKind::kCheckpoint);
  pending_ = version_record(wall_time);
  if (resume_step > 0) pending_ += session_start_record(resume_step, wall_time);
  flush();
}

void EventFile::scalar(std::string_view tag, double value, int64_t step, double wall_time) {
  pending_ += scalar_record(tag, static_cast<float>(value), step, wall_time);
}

void EventFile::flush() {
  if (!pending_.empty()) file_->write(std::exchange(pending_, {}));
}

}  // namespace sluice
