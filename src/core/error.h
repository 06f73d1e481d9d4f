// The one exception type of the project, thrown everywhere and caught once per program.
//
//   SLUICE_CHECK(width % heads == 0, kUsage, "hidden_size {} is not divisible by num_heads {}", width,
//   heads); SLUICE_FAIL(kData, "{}: file ends at byte {}, header promises {}", path, size, expected);
#pragma once

#include <fmt/core.h>

#include <exception>
#include <string>

namespace sluice {

// The value is the exit code of the program that lets the error end it.
enum class ErrorKind : int {
  kInternal = 1,     // a broken invariant of our own
  kUsage = 2,        // command line or configuration
  kData = 3,         // token shards, text, tokenizers
  kCheckpoint = 4,   // model or trainer state cannot be read or written
  kOutOfMemory = 5,  // host or device memory
  kNumerics = 17,    // too many non-finite steps, or corrupted state
  kStopped = 75,     // stopped on a signal; resumable
  kWatchdog = 124,   // a phase outlived its deadline
};

class Error : public std::exception {
 public:
  Error(ErrorKind kind, const char* file, int line, std::string message);

  // The message alone, for users.
  const char* what() const noexcept override { return message_.c_str(); }
  ErrorKind kind() const { return kind_; }
  int exit_code() const { return static_cast<int>(kind_); }
  // "src/data/shard.cpp:42", for whoever debugs.
  std::string where() const;

 private:
  ErrorKind kind_;
  const char* file_;
  int line_;
  std::string message_;
};

[[noreturn]] void throw_error(ErrorKind kind, const char* file, int line, std::string message);

}  // namespace sluice

#define SLUICE_FAIL(kind, ...) \
  ::sluice::throw_error(::sluice::ErrorKind::kind, __FILE__, __LINE__, ::fmt::format(__VA_ARGS__))

#define SLUICE_CHECK(condition, kind, ...)            \
  do {                                                \
    if (!(condition)) SLUICE_FAIL(kind, __VA_ARGS__); \
  } while (false)

// An invariant of our own code: the message is the expression itself.
#define SLUICE_ASSERT(condition) SLUICE_CHECK(condition, kInternal, "internal error: {} is false", #condition)
