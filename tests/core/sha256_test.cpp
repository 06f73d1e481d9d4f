#include "core/sha256.h"

#include <algorithm>
#include <string>

#include "core/file.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {
std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }
}  // namespace

// Vectors of FIPS 180-4's examples.
TEST_CASE("SHA-256 gives the published digests") {
  CHECK(sha256_hex({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256_hex(bytes_of("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256_hex(bytes_of(std::string(1000000, 'a'))) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("a hash may be asked for before the stream ends") {
  Sha256 hash;
  CHECK(hash.hex() == sha256_hex({}));
  hash.update(bytes_of("a"));
  hash.hex();
  hash.update(bytes_of("bc"));
  CHECK(hash.hex() == sha256_hex(bytes_of("abc")));
}

TEST_CASE("a file's hash is that of its bytes, above and below the size of a piece") {
  const test::TemporaryDirectory directory;
  for (const size_t size : {size_t{0}, size_t{5}, (size_t{4} << 20) + 1}) {
    const std::string content(size, 'x');
    OutputFile(directory / "a", ErrorKind::kData).write(content);
    CHECK(sha256_file(directory / "a", ErrorKind::kData) == sha256_hex(bytes_of(content)));
  }
  try {
    sha256_file(directory / "missing", ErrorKind::kCheckpoint);
    FAIL("hashed a file that is not there");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 4);
  }
}
