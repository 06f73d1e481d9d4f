// Every rule of the format, broken once, and files damaged at random.
#include "model/safetensors_header.h"

#include <sys/resource.h>

#include "core/random.h"
#include "model/raw_file.h"
#include "model/safetensors.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;
using test::raw_length;
using test::raw_safetensors;

namespace {

// The header of one tensor "w" with the given members.
std::string one(const std::string& members) { return "{\"w\":{" + members + "}}"; }

struct Corruption {
  const char* what;
  std::string bytes;
  const char* message;
};

const std::string kTwoFloats = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
const std::string kEightBytes(8, '\x01');

std::vector<Corruption> corruptions() {
  const auto of = [](const std::string& shape, const std::string& offsets) {
    return raw_safetensors(one(R"("dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets),
                           kEightBytes);
  };
  const auto pair = [](const std::string& first, const std::string& second, size_t bytes) {
    return raw_safetensors(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
                               R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}",
                           std::string(bytes, '\0'));
  };
  const std::string good = one(kTwoFloats);
  return {
      {"an empty file", "", "0 bytes are too few"},
      {"a file of 7 bytes", "1234567", "7 bytes are too few"},
      {"a header beyond the cap", raw_length(100'000'001) + "{}", "a header of 100000001 bytes is announced"},
      {"a length of 2^64 - 1", raw_length(~uint64_t{0}) + "{}", "18446744073709551615 bytes is announced"},
      {"a length of 2^63", raw_length(uint64_t{1} << 63) + "{}", "9223372036854775808 bytes is announced"},
      {"a header longer than the file", raw_length(100) + "{}",
       "ends at byte 108, but the file has 10 bytes"},
      {"no header", raw_length(0), "does not start with an opening brace"},
      {"a space before the header", raw_safetensors(" {}"), "does not start with an opening brace"},
      {"a byte order mark", raw_safetensors("\xEF\xBB\xBF{}"), "does not start with an opening brace"},
      {"an array", raw_safetensors("[]"), "does not start with an opening brace"},
      {"JSON that breaks off", raw_safetensors("{\"w\":"), "line 1, column"},
      {"text behind the JSON", raw_safetensors("{} {}"), "line 1, column 4"},
      {"a zero byte behind the JSON", raw_safetensors(std::string("{}\0x", 4)), "a zero byte"},
      {"invalid UTF-8", raw_safetensors("{\"\xff\":1}"), "line 1, column"},
      {"a duplicate tensor", raw_safetensors("{\"w\":{" + kTwoFloats + "},\"w\":{" + kTwoFloats + "}}"),
       "duplicate key w"},
      {"a duplicate member", raw_safetensors(one(R"("dtype":"F32","dtype":"F32")")), "duplicate key w.dtype"},
      {"a duplicate metadata key", raw_safetensors(R"({"__metadata__":{"a":"1","a":"2"}})"),
       "duplicate key __metadata__.a"},
      {"a deep header", raw_safetensors("{\"w\":" + std::string(100000, '[')), "nested deeper than 64"},
      {"metadata that is no object", raw_safetensors(R"({"__metadata__":"pt"})"), "__metadata__ is string"},
      {"metadata with a number", raw_safetensors(R"({"__metadata__":{"step":3}})"),
       "__metadata__: step is 3, a string is needed"},
      {"metadata with an object", raw_safetensors(R"({"__metadata__":{"a":{}}})"), "a is object, a string"},
      {"a tensor that is no object", raw_safetensors(R"({"w":3})"), "tensor w: 3 where an object is needed"},
      {"an unknown member", raw_safetensors(one(kTwoFloats + R"(,"stride":[1])"), kEightBytes),
       "tensor w: unknown key stride"},
      {"no dtype", raw_safetensors(one(R"("shape":[2],"data_offsets":[0,8])"), kEightBytes),
       "dtype is missing"},
      {"no shape", raw_safetensors(one(R"("dtype":"F32","data_offsets":[0,8])"), kEightBytes),
       "shape is missing"},
      {"no offsets", raw_safetensors(one(R"("dtype":"F32","shape":[2])"), kEightBytes),
       "data_offsets is missing"},
      {"a dtype that is no string", raw_safetensors(one(R"("dtype":32,"shape":[2],"data_offsets":[0,8])")),
       "dtype is 32, a string is needed"},
      {"an unknown dtype", raw_safetensors(one(R"("dtype":"f32","shape":[2],"data_offsets":[0,8])")),
       "tensor w: unknown dtype \"f32\""},
      {"a shape that is no array", of("2", "[0,8]"), "shape is 2, an array is needed"},
      {"a float in a shape", of("[2.0]", "[0,8]"), "shape holds 2.0, integers"},
      {"a negative size", of("[-2]", "[0,8]"), "shape holds -2, integers"},
      {"minus zero", of("[-0]", "[0,0]"), "shape holds"},
      {"a text in a shape", of("[\"2\"]", "[0,8]"), "shape holds \"2\", integers"},
      {"true in a shape", of("[true]", "[0,8]"), "shape holds true, integers"},
      {"null in a shape", of("[null]", "[0,8]"), "shape holds null, integers"},
      {"a size of 2^63", of("[9223372036854775808]", "[0,8]"), "shape holds 9223372036854775808"},
      {"a size of 2^64", of("[18446744073709551616]", "[0,8]"), "shape holds 1.8446744073709552e+19"},
      {"one offset", of("[2]", "[8]"), "1 data_offsets"},
      {"three offsets", of("[2]", "[0,4,8]"), "3 data_offsets"},
      {"a float offset", of("[2]", "[0,8.0]"), "data_offsets holds 8.0"},
      {"a negative offset", of("[2]", "[-8,0]"), "data_offsets holds -8"},
      {"offsets that run backwards", of("[2]", "[8,0]"), "[8, 0] run backwards"},
      {"offsets that are too short", of("[2]", "[0,4]"),
       "[2] of F32 is 8 bytes, but data_offsets [0, 4] hold 4"},
      {"offsets that are too long", of("[1]", "[0,8]"),
       "[1] of F32 is 4 bytes, but data_offsets [0, 8] hold 8"},
      {"a product beyond 64 bits", of("[4294967296,4294967296]", "[0,0]"), "beyond 2^63 bits"},
      {"a product that wraps to the right size", of("[4611686018427387905,4,2]", "[0,32]"),
       "beyond 2^63 bits"},
      {"packed elements that fill no byte",
       raw_safetensors(one(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])"), "ab"),
       "no whole number of bytes"},
      {"65 dimensions",
       raw_safetensors(one(R"("dtype":"U8","shape":[1)" +
                           [] {
                             std::string ones;
                             for (int i = 0; i < 64; ++i) ones += ",1";
                             return ones;
                           }() +
                           R"(],"data_offsets":[0,1])"),
                       "a"),
       "65 dimensions, the limit is 64"},
      {"data that starts late", pair("[1,5]", "[5,9]", 9),
       "tensor a: data begins at 1, but the tensors before it"},
      {"a hole", pair("[0,4]", "[5,9]", 9),
       "tensor b: data begins at 5, but the tensors before it end at 4; holes"},
      {"an overlap", pair("[0,4]", "[2,6]", 6),
       "data begins at 2, but the tensors before it end at 4; overlaps"},
      {"two tensors at one place", pair("[0,4]", "[0,4]", 4), "overlaps are not allowed"},
      {"data that is cut short", pair("[0,4]", "[4,8]", 7), "need 8 bytes of data, but 7 follow"},
      {"bytes behind the data", pair("[0,4]", "[4,8]", 9), "need 8 bytes of data, but 9 follow"},
      {"bytes behind no tensors", raw_safetensors("{}", "x"), "need 0 bytes of data, but 1 follow"},
      {"a huge promise",
       raw_safetensors(one(R"("dtype":"U8","shape":[1152921504606846975],)"
                           R"("data_offsets":[0,1152921504606846975])")),
       "need 1152921504606846975 bytes of data, but 0 follow"},
  };
}

int64_t peak_kilobytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

}  // namespace

TEST_CASE("each broken rule of safetensors is refused with its own message") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "broken.safetensors";
  for (const Corruption& corruption : corruptions()) {
    INFO(corruption.what);
    test::write_raw(path, corruption.bytes);
    try {
      const SafetensorsFile file(path);
      FAIL_CHECK("accepted");
    } catch (const Error& error) {
      CHECK(error.exit_code() == 4);
      CHECK_THAT(error.what(), test::contains(corruption.message));
      CHECK_THAT(error.what(), test::contains(path.string()));
    }
  }
}

TEST_CASE("unusual but legal headers are read") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  const auto tensors_of = [&](const std::string& bytes) {
    test::write_raw(path, bytes);
    return SafetensorsFile(path).tensors();
  };
  CHECK(tensors_of(raw_safetensors("{}")).empty());
  CHECK(tensors_of(raw_safetensors("{\"__metadata__\":{}}     ")).empty());
  const auto scalar =
      tensors_of(raw_safetensors(one(R"("data_offsets":[0,4],"shape":[],"dtype":"F32")"), "abcd"));
  CHECK(scalar.at(0).shape.empty());
  CHECK(scalar.at(0).numel() == 1);
  const auto empty =
      tensors_of(raw_safetensors(one(R"("dtype":"F64","shape":[3,0,5],"data_offsets":[0,0])")));
  CHECK(empty.at(0).numel() == 0);
  // In the order of the data, whatever the order of the header; an empty tensor may lie between two others.
  const auto three = tensors_of(raw_safetensors(
      R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"e":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},)"
      R"("a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})",
      "abc"));
  REQUIRE(three.size() == 3);
  CHECK(three[0].name == "a");
  CHECK(three[1].name == "e");
  CHECK(three[2].name == "b");
}

TEST_CASE("a header that promises much costs no memory") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  const int64_t resident = peak_kilobytes();
  const int64_t tensors = allocator_of(Device::kCpu).statistics().peak;
  test::write_raw(path, raw_safetensors(one(R"("dtype":"U8","shape":[1152921504606846976],)"
                                            R"("data_offsets":[0,1152921504606846976])")));
  CHECK_THROWS_WITH(SafetensorsFile(path), test::contains("1152921504606846976"));
  // Legal, being empty, but its strides are beyond 64 bits.
  test::write_raw(
      path, raw_safetensors(one(R"("dtype":"F32","shape":[0,1152921504606846976,64],"data_offsets":[0,0])")));
  CHECK_THROWS_WITH(SafetensorsFile(path).load("w", DType::kF32), test::contains("too large to load"));
  // The length alone, in a sparse file that is large enough for it.
  test::write_raw(path, raw_length(100'000'000));
  std::filesystem::resize_file(path, int64_t{1} << 40);
  CHECK_THROWS_WITH(SafetensorsFile(path), test::contains("opening brace"));
  CHECK(allocator_of(Device::kCpu).statistics().peak == tensors);
  CHECK(peak_kilobytes() - resident < 400 * 1024);
}

TEST_CASE("files damaged at random are refused or read, never worse") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  write_safetensors(path, std::vector<NamedTensor>{
                              {"weight", Tensor::from<float>({2, 3}, {1, 2, 3, 4, 5, 6})},
                              {"bias", Tensor::from<int32_t>({3}, {7, 8, 9})},
                              {"scale", Tensor::from<double>({}, {0.5})},
                          });
  const std::string good = test::read_raw(path);
  const size_t data_start =
      static_cast<size_t>(read_safetensors_header(InputFile(path, ErrorKind::kData)).data_start);
  int refused = 0;
  const auto try_file = [&](const std::string& bytes, bool header_is_good) {
    test::write_raw(path, bytes);
    try {
      const SafetensorsFile file(path);
      std::string data;
      for (const StoredTensor& tensor : file.tensors()) {
        file.stream(tensor.name, std::nullopt).stream([&](std::span<const std::byte> piece) {
          data.append(reinterpret_cast<const char*>(piece.data()), piece.size());
        });
        if (is_convertible_float(tensor.type)) file.load(tensor.name, DType::kF64);
        if (tensor.type == StoredType::kI32) file.load(tensor.name, DType::kI32);
      }
      CHECK(data == bytes.substr(data_start));
    } catch (const Error& error) {
      ++refused;
      CHECK(error.exit_code() == 4);
      CHECK_FALSE(header_is_good);
    }
  };
  for (size_t size = 0; size < good.size(); ++size) try_file(good.substr(0, size), false);
  CHECK(refused == static_cast<int>(good.size()));
  const Philox random(5);
  for (uint64_t i = 0; i < 2000; ++i) {
    std::string bytes = good;
    const size_t at = random.bits64(3 * i) % bytes.size();
    // Half of the changes flip a bit, half write a byte that means something in JSON.
    const std::string_view meaningful = "{}[]\",:0123456789-.eEtfn\\ \n";
    bytes[at] = i % 2 == 0 ? static_cast<char>(bytes[at] ^ (1 << random.bits64(3 * i + 1) % 8))
                           : meaningful[random.bits64(3 * i + 2) % meaningful.size()];
    try_file(bytes, at >= data_start);
  }
  CHECK(refused > static_cast<int>(good.size()) + 800);
}
