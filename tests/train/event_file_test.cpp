#include "train/event_file.h"

#include <string>

#include "core/file.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "train/crc32c.h"

using namespace sluice;

namespace {

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

std::string text_of(const std::filesystem::path& path) { return read_text_file(path, ErrorKind::kData); }

}  // namespace

TEST_CASE("CRC-32C of the standard's check string") {
  CHECK(crc32c("123456789") == 0xE3069283);
  CHECK(crc32c("") == 0);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AA);  // RFC 3720 B.4
  CHECK(crc32c(std::string(32, '\xFF')) == 0x62A8AB43);
}

TEST_CASE("event records are TensorBoard's byte for byte") {
  CHECK(hex(version_record(1.5)) ==
        "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c");
  CHECK(hex(scalar_record("loss", 2.5F, 3, 2.0)) ==
        "1a00000000000000129bd82d09000000000000004010032a0d0a0b0a046c6f73731500002040bb63418a");
  // 300 is the varint ac 02; session_log is field 7, its status START (1) is field 1.
  const std::string session = hex(session_start_record(300, 2.0));
  CHECK(session.substr(0, 16) == "1000000000000000");
  CHECK(session.substr(24, 32) ==
        "090000000000000040"
        "10ac02"
        "3a020801");
}

TEST_CASE("long tags and large steps take more bytes of their varints") {
  const std::string tag(200, 't');
  const std::string record = scalar_record(tag, 1.0F, int64_t{1} << 40, 0.0);
  CHECK_THAT(hex(record), test::contains("10808080808020"));  // 2^40
  CHECK_THAT(hex(record), test::contains("0ac801" + hex(tag)));
}

TEST_CASE("a new run's file begins with the version, a resumed one's with its step too") {
  const test::TemporaryDirectory directory;
  EventFile fresh(directory / "events", 0);
  const std::string name = fresh.path().filename().string();
  CHECK(name.starts_with("events.out.tfevents."));
  CHECK(text_of(fresh.path()).size() == version_record(0).size());

  const EventFile resumed(directory / "events", 300);
  CHECK(resumed.path() != fresh.path());  // though in the same second
  const std::string content = text_of(resumed.path());
  CHECK(content.size() == version_record(0).size() + session_start_record(300, 0).size());
  CHECK_THAT(hex(content), test::contains("10ac023a020801"));
}

TEST_CASE("scalars are on disk after flush") {
  const test::TemporaryDirectory directory;
  EventFile file(directory.path(), 0);
  const std::string head = text_of(file.path());
  file.scalar("loss", 2.5, 3, 2.0);
  file.scalar("lr", 0.25, 3, 2.0);
  CHECK(text_of(file.path()) == head);
  file.flush();
  file.flush();
  CHECK(text_of(file.path()) ==
        head + scalar_record("loss", 2.5F, 3, 2.0) + scalar_record("lr", 0.25F, 3, 2.0));
}

TEST_CASE("a directory that cannot be made is an error with exit code 4") {
  const test::TemporaryDirectory directory;
  write_file_atomically(directory / "file", "x", ErrorKind::kData);
  try {
    EventFile(directory / "file" / "events", 0);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 4);
    CHECK_THAT(error.what(), test::contains("/file/events"));
  }
}
