// Scalars for TensorBoard: protobuf Event messages in TFRecord framing (tensorflow/core/util/event.proto,
// tensorflow/core/lib/io/record_writer.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "core/file.h"

namespace sluice {

class EventFile {
 public:
  // A new file events.out.tfevents.<seconds>.<host>.<pid> in `directory`, which is created. With a step > 0,
  // TensorBoard is told to drop what earlier files hold from that step on. Error(kCheckpoint).
  EventFile(const std::filesystem::path& directory, int64_t resume_step);

  // Kept until flush(). `wall_time` is in seconds since 1970; values are stored as float.
  void scalar(std::string_view tag, double value, int64_t step, double wall_time);
  void flush();  // one write call; Error(kCheckpoint)

  const std::filesystem::path& path() const { return file_->path(); }

 private:
  std::optional<OutputFile> file_;  // its name is looked for in the constructor
  std::string pending_;
};

// The records that an event file is made of.
std::string version_record(double wall_time);
std::string session_start_record(int64_t step, double wall_time);
std::string scalar_record(std::string_view tag, float value, int64_t step, double wall_time);

}  // namespace sluice
