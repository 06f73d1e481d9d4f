#include "core/sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/file.h"

namespace sluice {

struct Sha256::Context {
  Context() : state(EVP_MD_CTX_new()) {
    SLUICE_CHECK(state != nullptr, kOutOfMemory, "no memory for a hash");
  }
  ~Context() { EVP_MD_CTX_free(state); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  EVP_MD_CTX* state;
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  SLUICE_CHECK(EVP_DigestInit_ex(context_->state, EVP_sha256(), nullptr) == 1, kInternal,
               "OpenSSL offers no SHA-256");
}

Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> bytes) {
  SLUICE_ASSERT(EVP_DigestUpdate(context_->state, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::hex() const {
  // Finishing spoils the state, so a copy is finished.
  Context copy;
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  SLUICE_ASSERT(EVP_MD_CTX_copy_ex(copy.state, context_->state) == 1);
  SLUICE_ASSERT(EVP_DigestFinal_ex(copy.state, digest.data(), &size) == 1);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

std::string sha256_file(const std::filesystem::path& path, ErrorKind kind) {
  constexpr int64_t kPiece = 4 << 20;
  const InputFile file(path, kind);
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(kPiece, file.size())));
  Sha256 hash;
  for (int64_t offset = 0; offset < file.size(); offset += kPiece) {
    const auto piece = std::span(buffer).first(static_cast<size_t>(std::min(kPiece, file.size() - offset)));
    file.read_at(offset, piece);
    hash.update(piece);
  }
  return hash.hex();
}

}  // namespace sluice
