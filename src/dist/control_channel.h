// How the processes of a run speak to each other about small things: who is where, whether all agree, who
// wants to stop. Tensors travel by a Communicator (dist/communicator.h), which has one of these inside.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace sluice {

class ControlChannel {
 public:
  ControlChannel() = default;
  virtual ~ControlChannel() = default;
  ControlChannel(const ControlChannel&) = delete;
  ControlChannel& operator=(const ControlChannel&) = delete;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;

  // Every rank gives equally many bytes; all get those of rank 0, 1, ... one after the other.
  // Error(kInternal) when sizes differ or a rank is gone.
  virtual std::vector<std::byte> all_gather(std::span<const std::byte> bytes) = 0;

  // Which connection is gone, or "". From any thread.
  virtual std::string failure() const { return {}; }

  // Ends the whole job, as far as the launcher allows, with this exit code; from any thread.
  [[noreturn]] virtual void abort(int exit_code) = 0;
};

// One process, nobody to speak to.
class SoloChannel final : public ControlChannel {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  std::vector<std::byte> all_gather(std::span<const std::byte> bytes) override {
    return {bytes.begin(), bytes.end()};
  }
  [[noreturn]] void abort(int exit_code) override;
};

}  // namespace sluice
