#include "dist/tcp_channel.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "core/error.h"
#include "core/sha256.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kMagic = 0x31656369756c73;  // "sluice1"

struct Hello {
  uint64_t magic = kMagic;
  uint64_t job = 0;
  int32_t rank = 0;
  int32_t world_size = 0;
};

enum class Answer : int32_t { kWelcome = 1, kOtherJob, kOtherWorld, kTakenRank };

uint64_t hash_of(const std::string& text) {
  return std::stoull(sha256_hex(std::as_bytes(std::span(text))).substr(0, 16), nullptr, 16);
}

std::string variable(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? "" : text;
}

int milliseconds_until(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left + 1, 0, 1'000'000));
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

// Null when the name is not known (yet).
Addresses look_up(const std::string& host, int port, bool to_listen) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = to_listen ? AI_PASSIVE : 0;
  addrinfo* list = nullptr;
  const int status =
      ::getaddrinfo(to_listen ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &list);
  return Addresses(status == 0 ? list : nullptr);
}

void set_up(int descriptor) {
  const int on = 1;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  // A host that vanished without a word is noticed after about a minute.
  const int idle = 20, interval = 10, probes = 4;
  ::setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

// Whether all bytes went or came before the deadline.
bool transfer(int descriptor, std::byte* bytes, size_t count, bool sending, Clock::time_point deadline) {
  while (count > 0) {
    pollfd ready{descriptor, static_cast<short>(sending ? POLLOUT : POLLIN), 0};
    const int events = ::poll(&ready, 1, milliseconds_until(deadline));
    if (events < 0 && errno == EINTR) continue;
    if (events <= 0) {
      if (events == 0 && Clock::now() < deadline) continue;
      return false;
    }
    const ssize_t moved =
        sending ? ::send(descriptor, bytes, count, MSG_NOSIGNAL) : ::recv(descriptor, bytes, count, 0);
    if (moved < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (moved <= 0) return false;
    bytes += moved;
    count -= static_cast<size_t>(moved);
  }
  return true;
}

template <class S>
bool send_value(int descriptor, S value, Clock::time_point deadline) {
  return transfer(descriptor, reinterpret_cast<std::byte*>(&value), sizeof(value), true, deadline);
}
template <class S>
bool receive_value(int descriptor, S& value, Clock::time_point deadline) {
  return transfer(descriptor, reinterpret_cast<std::byte*>(&value), sizeof(value), false, deadline);
}

constexpr auto kForever = Clock::time_point::max();

}  // namespace

TcpMeeting meeting_from_environment(double seconds) {
  TcpMeeting meeting;
  meeting.seconds = seconds;
  meeting.address = variable("MASTER_ADDR");
  const std::string port = variable("MASTER_PORT");
  SLUICE_CHECK(
      !meeting.address.empty() && !port.empty(), kUsage,
      "several processes without MPI meet at MASTER_ADDR and MASTER_PORT, but {} is not set; e.g. export "
      "MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1) MASTER_PORT=29500",
      meeting.address.empty() ? "MASTER_ADDR" : "MASTER_PORT");
  const char* end = port.data() + port.size();
  const auto [stop, error] = std::from_chars(port.data(), end, meeting.port);
  SLUICE_CHECK(error == std::errc() && stop == end && meeting.port >= 1 && meeting.port < 65535, kUsage,
               "MASTER_PORT is \"{}\", expected a number from 1 to 65534", port);
  const std::string torchrun = variable("TORCHELASTIC_RUN_ID");
  if (!torchrun.empty()) ++meeting.port;
  meeting.job = torchrun + "/" + variable("TORCHELASTIC_RESTART_COUNT") + "/" + variable("SLURM_JOB_ID") +
                "/" + variable("SLURM_STEP_ID");
  return meeting;
}

TcpChannel::Socket::~Socket() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

TcpChannel::TcpChannel(const TcpMeeting& meeting, int rank, int world_size)
    : rank_(rank), world_size_(world_size), peers_(static_cast<size_t>(rank == 0 ? world_size : 1)) {
  if (rank == 0) {
    gather_arrivals(meeting);
  } else {
    arrive(meeting);
  }
}

TcpChannel::~TcpChannel() = default;

void TcpChannel::gather_arrivals(const TcpMeeting& meeting) {
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(meeting.seconds));
  const Addresses addresses = look_up("", meeting.port, true);
  SLUICE_CHECK(addresses != nullptr, kUsage, "no network to listen in at port {}", meeting.port);
  const Socket listening(::socket(addresses->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(listening.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  SLUICE_CHECK(listening.open() && ::bind(listening.get(), addresses->ai_addr, addresses->ai_addrlen) == 0 &&
                   ::listen(listening.get(), 1024) == 0,
               kUsage, "rank 0 cannot listen at port {} (MASTER_PORT): {}; choose another", meeting.port,
               std::strerror(errno));
  for (int missing = world_size_ - 1; missing > 0;) {
    pollfd ready{listening.get(), POLLIN, 0};
    const int events = ::poll(&ready, 1, milliseconds_until(deadline));
    if (events <= 0 && Clock::now() >= deadline) {
      std::string ranks;
      for (int peer = 1; peer < world_size_; ++peer) {
        if (!peers_[static_cast<size_t>(peer)].open())
          ranks += fmt::format("{}{}", ranks.empty() ? "" : ", ", peer);
      }
      SLUICE_FAIL(kUsage, "rank(s) {} of {} did not reach rank 0 at port {} within {} s", ranks, world_size_,
                  meeting.port, meeting.seconds);
    }
    // Also just before the deadline, of which poll() sees whole milliseconds: accepting would wait for ever.
    if (events <= 0) continue;
    Socket arrived(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!arrived.open()) continue;
    set_up(arrived.get());
    // Somebody who connects and says nothing, a port scanner say, must not hold up the others for long.
    const auto patience = std::min(deadline, Clock::now() + std::chrono::seconds(5));
    Hello hello;
    if (!receive_value(arrived.get(), hello, patience) || hello.magic != kMagic) continue;
    Answer answer = Answer::kWelcome;
    if (hello.job != hash_of(meeting.job)) {
      answer = Answer::kOtherJob;
    } else if (hello.world_size != world_size_ || hello.rank < 1 || hello.rank >= world_size_) {
      answer = Answer::kOtherWorld;
    } else if (peers_[static_cast<size_t>(hello.rank)].open()) {
      answer = Answer::kTakenRank;
    }
    if (!send_value(arrived.get(), answer, patience) || answer != Answer::kWelcome) continue;
    peers_[static_cast<size_t>(hello.rank)] = std::move(arrived);
    --missing;
  }
}

void TcpChannel::arrive(const TcpMeeting& meeting) {
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(meeting.seconds));
  const Hello hello{.job = hash_of(meeting.job), .rank = rank_, .world_size = world_size_};
  std::string why = "the name is not known";
  while (Clock::now() < deadline) {
    const Addresses addresses = look_up(meeting.address, meeting.port, false);
    for (const addrinfo* to = addresses.get(); to != nullptr; to = to->ai_next) {
      Socket socket(::socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
      // Bounds connect() too, where packets vanish instead of being refused.
      const timeval patience{10, 0};
      ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
      if (!socket.open() || ::connect(socket.get(), to->ai_addr, to->ai_addrlen) != 0) {
        why = std::strerror(errno);
        continue;
      }
      set_up(socket.get());
      Answer answer{};
      if (!send_value(socket.get(), hello, deadline) || !receive_value(socket.get(), answer, deadline)) {
        why = "whoever listens there hung up";
        continue;
      }
      SLUICE_CHECK(answer != Answer::kOtherJob, kUsage,
                   "{}:{} belongs to another job; choose another MASTER_PORT", meeting.address, meeting.port);
      SLUICE_CHECK(answer != Answer::kOtherWorld, kUsage,
                   "rank 0 at {}:{} expects another world size than {}", meeting.address, meeting.port,
                   world_size_);
      SLUICE_CHECK(answer != Answer::kTakenRank, kUsage, "two processes are rank {}", rank_);
      SLUICE_CHECK(answer == Answer::kWelcome, kUsage,
                   "{}:{} is no sluice process; choose another MASTER_PORT", meeting.address, meeting.port);
      peers_[0] = std::move(socket);
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  SLUICE_FAIL(kUsage, "rank {} did not reach rank 0 at {}:{} within {} s: {}", rank_, meeting.address,
              meeting.port, meeting.seconds, why);
}

void TcpChannel::send_to(int peer, std::span<const std::byte> bytes) {
  const auto& socket = peers_[static_cast<size_t>(peer)];
  SLUICE_CHECK(transfer(socket.get(), const_cast<std::byte*>(bytes.data()), bytes.size(), true, kForever),
               kInternal, "the connection to rank {} is gone: it has ended", peer);
}

void TcpChannel::receive_from(int peer, std::span<std::byte> bytes) {
  const auto& socket = peers_[static_cast<size_t>(peer)];
  SLUICE_CHECK(transfer(socket.get(), bytes.data(), bytes.size(), false, kForever), kInternal,
               "the connection to rank {} is gone: it has ended", peer);
}

std::vector<std::byte> TcpChannel::all_gather(std::span<const std::byte> bytes) {
  const uint64_t size = bytes.size();
  std::vector<std::byte> all(bytes.size() * static_cast<size_t>(world_size_));
  if (rank_ != 0) {
    send_to(0, std::as_bytes(std::span(&size, 1)));
    send_to(0, bytes);
    receive_from(0, all);
    return all;
  }
  std::copy(bytes.begin(), bytes.end(), all.begin());
  for (int peer = 1; peer < world_size_; ++peer) {
    uint64_t theirs = 0;
    receive_from(peer, std::as_writable_bytes(std::span(&theirs, 1)));
    SLUICE_CHECK(theirs == size, kInternal, "rank {} sends {} bytes where rank 0 sends {}", peer, theirs,
                 size);
    receive_from(peer, std::span(all).subspan(static_cast<size_t>(peer) * bytes.size(), bytes.size()));
  }
  for (int peer = 1; peer < world_size_; ++peer) send_to(peer, all);
  return all;
}

std::string TcpChannel::failure() const {
  for (size_t peer = 0; peer < peers_.size(); ++peer) {
    if (!peers_[peer].open()) continue;
    pollfd state{peers_[peer].get(), POLLRDHUP, 0};
    if (::poll(&state, 1, 0) > 0) return fmt::format("the connection to rank {} is gone: it has ended", peer);
  }
  return {};
}

void TcpChannel::abort(int exit_code) { std::_Exit(exit_code); }

}  // namespace sluice
