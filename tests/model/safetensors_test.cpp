#include "model/safetensors.h"

#include <bit>
#include <cmath>
#include <limits>

#include "core/sha256.h"
#include "model/element_copy.h"
#include "model/raw_file.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/random_tensor.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

using Tensors = std::vector<NamedTensor>;

std::string hex(const std::string& bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

std::string bytes_of_tensor(const Tensor& tensor) {
  const Tensor dense = tensor.contiguous();
  return std::string(static_cast<const char*>(dense.raw_data()), static_cast<size_t>(dense.bytes()));
}

}  // namespace

TEST_CASE("two bf16 values are written to the byte as the format says") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  SafetensorsOptions options;
  options.floating = DType::kBF16;
  const WrittenFile written =
      write_safetensors(path, Tensors{{"w", Tensor::from<float>({2}, {1, 2})}}, options);
  const std::string bytes = test::read_raw(path);
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})";
  CHECK(bytes.size() == 100);
  CHECK(hex(bytes.substr(0, 8)) == "5800000000000000");
  CHECK(bytes.substr(8, 88) == header + std::string(88 - header.size(), ' '));
  CHECK(hex(bytes.substr(96)) == "803f0040");
  CHECK(written.name == "a.safetensors");
  CHECK(written.bytes == 100);
  CHECK(written.sha256 == sha256_file(path, ErrorKind::kCheckpoint));
}

TEST_CASE("tensors are stored by alignment, then by name, without gaps") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  write_safetensors(path, Tensors{
                              {"b", Tensor::zeros({3}, DType::kBF16, Device::kCpu)},
                              {"i", Tensor::zeros({3}, DType::kI32, Device::kCpu)},
                              {"a", Tensor::zeros({3}, DType::kBF16, Device::kCpu)},
                              {"d", Tensor::zeros({}, DType::kF64, Device::kCpu)},
                              {"none", Tensor::zeros({0, 4}, DType::kF32, Device::kCpu)},
                              {"f", Tensor::zeros({3}, DType::kF32, Device::kCpu)},
                          });
  const SafetensorsFile file(path);
  std::string order;
  for (const StoredTensor& tensor : file.tensors()) order += tensor.name + " ";
  CHECK(order == "d f none i a b ");
  CHECK(file.find("a").begin == 32);
  CHECK(file.bytes() % 2 == 0);
  CHECK(file.metadata() == Metadata{{"format", "pt"}});
}

TEST_CASE("every dtype comes back bit for bit, NaN payloads included") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  std::vector<float> floats;
  for (const uint32_t bits : {0x7f800001u, 0xffc12345u, 0x7f800000u, 0x80000000u, 0x00000001u, 0x3f800000u}) {
    floats.push_back(std::bit_cast<float>(bits));
  }
  std::vector<double> doubles;
  for (const uint64_t bits :
       std::vector<uint64_t>{0x7ff0000000000001u, 0xfff8123456789abcu, 0x8000000000000000u, 0x1u}) {
    doubles.push_back(std::bit_cast<double>(bits));
  }
  std::vector<bfloat16> halves;
  for (uint32_t bits = 0; bits < 65536; ++bits) halves.push_back({static_cast<uint16_t>(bits)});
  const Tensors tensors = {
      {"f32", Tensor::from<float>({2, 3}, floats)},
      {"f64", Tensor::from<double>({4}, doubles)},
      {"bf16", Tensor::from<bfloat16>({256, 256}, halves)},
      {"i32", Tensor::from<int32_t>({3}, {std::numeric_limits<int32_t>::min(), -1, 5})},
      {"scalar", Tensor::from<float>({}, {floats[0]})},
  };
  write_safetensors(path, tensors);
  const SafetensorsFile file(path);
  for (const NamedTensor& named : tensors) {
    INFO(named.name);
    const Tensor loaded = file.load(named.name, named.tensor.dtype());
    CHECK(loaded.shape() == named.tensor.shape());
    CHECK(bytes_of_tensor(loaded) == bytes_of_tensor(named.tensor));
  }
}

TEST_CASE("floats convert on loading and on writing as tensors do in memory") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  // More than one piece of the widest type, and not a whole number of pieces.
  const Shape shape{1031, 1033};
  for (const DType stored : {DType::kF32, DType::kF64, DType::kBF16}) {
    const Tensor values = test::random_normal(shape, stored, 3);
    write_safetensors(path, Tensors{{"w", values}});
    const SafetensorsFile file(path);
    for (const DType wanted : {DType::kF32, DType::kF64, DType::kBF16}) {
      INFO(name_of(stored) << " to " << name_of(wanted));
      const std::string expected = bytes_of_tensor(values.to(wanted));
      CHECK(bytes_of_tensor(file.load("w", wanted)) == expected);
      SafetensorsOptions options;
      options.floating = wanted;
      const auto converted = directory / "b.safetensors";
      write_safetensors(converted, Tensors{{"w", values}}, options);
      CHECK(bytes_of_tensor(SafetensorsFile(converted).load("w", wanted)) == expected);
      // From file to file, never whole in memory: the same bytes.
      const std::string direct = test::read_raw(converted);
      write_safetensors(converted, std::vector<TensorStream>{file.stream("w", stored_type_of(wanted))});
      CHECK(test::read_raw(converted) == direct);
    }
  }
}

TEST_CASE("strided tensors are written and filled in place") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI32}) {
    const Shape shape{50, 900};  // the slice is longer than one piece only in rows, so runs are cut anywhere
    const Tensor whole =
        dtype == DType::kI32 ? test::random_integers(shape, 1, -9, 9) : test::random_normal(shape, dtype, 1);
    const Tensor part = whole.columns(300, 301);
    const Tensor deep = whole.view({5, 10, 900}).narrow(1, 3, 4).columns(7, 11);
    write_safetensors(path, Tensors{{"part", part}, {"deep", deep}});
    const SafetensorsFile file(path);
    CHECK(bytes_of_tensor(file.load("part", dtype)) == bytes_of_tensor(part));
    CHECK(bytes_of_tensor(file.load("deep", dtype)) == bytes_of_tensor(deep));

    const Tensor target = Tensor::zeros(shape, dtype, Device::kCpu);
    file.load_into("part", target.columns(300, 301));
    CHECK(bytes_of_tensor(target.columns(300, 301)) == bytes_of_tensor(part));
    const Tensor zeros = Tensor::zeros({50, 300}, dtype, Device::kCpu);
    CHECK(bytes_of_tensor(target.columns(0, 300)) == bytes_of_tensor(zeros));
    CHECK(bytes_of_tensor(target.columns(601, 299)) == bytes_of_tensor(zeros.columns(0, 299)));
    file.load_into("deep", target.view({5, 10, 900}).narrow(1, 3, 4).columns(7, 11));
    CHECK(bytes_of_tensor(target.view({5, 10, 900}).narrow(1, 3, 4).columns(7, 11)) == bytes_of_tensor(deep));
  }
}

TEST_CASE("a strided destination beyond one piece is filled with conversion") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  const Tensor values = test::random_normal({1500, 1501}, DType::kF32, 8);
  write_safetensors(path, Tensors{{"w", values}});
  const Tensor target = Tensor::zeros({1500, 1600}, DType::kF64, Device::kCpu);
  SafetensorsFile(path).load_into("w", target.columns(50, 1501));
  CHECK(bytes_of_tensor(target.columns(50, 1501)) == bytes_of_tensor(values.to(DType::kF64)));
}

TEST_CASE("IEEE halves are read exactly") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  const std::vector<std::pair<uint16_t, float>> values = {
      {0x0000, 0.0f},        {0x8000, -0.0f},    {0x3c00, 1.0f},     {0xc000, -2.0f},
      {0x7bff, 65504.0f},    {0x0400, 0x1p-14f}, {0x0001, 0x1p-24f}, {0x83ff, -0x1.ff8p-15f},
      {0x3555, 0x1.554p-2f}, {0x7c00, INFINITY}, {0xfc00, -INFINITY}};
  std::string data;
  for (const auto& [bits, value] : values) data.append(reinterpret_cast<const char*>(&bits), 2);
  data.append("\x01\x7e", 2);  // a NaN
  test::write_raw(path,
                  test::raw_safetensors(R"({"w":{"dtype":"F16","shape":[12],"data_offsets":[0,24]}})", data));
  const auto loaded = SafetensorsFile(path).load("w", DType::kF32).to_vector<float>();
  for (size_t i = 0; i < values.size(); ++i) {
    CHECK(std::bit_cast<uint32_t>(loaded[i]) == std::bit_cast<uint32_t>(values[i].second));
  }
  CHECK(std::isnan(loaded.back()));
}

TEST_CASE("I64 is read as i32 where it fits") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  const auto write = [&](const std::vector<int64_t>& values) {
    const std::string data(reinterpret_cast<const char*>(values.data()), values.size() * 8);
    test::write_raw(path, test::raw_safetensors(
                              fmt::format(R"({{"ids":{{"dtype":"I64","shape":[{}],"data_offsets":[0,{}]}}}})",
                                          values.size(), data.size()),
                              data));
    return SafetensorsFile(path);
  };
  CHECK(write({-2147483648, 0, 2147483647}).load("ids", DType::kI32).to_vector<int32_t>() ==
        std::vector<int32_t>{std::numeric_limits<int32_t>::min(), 0, std::numeric_limits<int32_t>::max()});
  CHECK_THROWS_WITH(write({1, 2, 2147483648, 3}).load("ids", DType::kI32),
                    test::contains("tensor ids: element 2 does not fit into 32 bits"));
}

TEST_CASE("what cannot be loaded is said with file, tensor and both sides") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  write_safetensors(path, Tensors{{"w", Tensor::zeros({2, 3}, DType::kF32, Device::kCpu)},
                                  {"ids", Tensor::zeros({2}, DType::kI32, Device::kCpu)}});
  const SafetensorsFile file(path);
  const auto message_of = [](auto&& action) -> std::string {
    try {
      action();
    } catch (const Error& error) {
      CHECK(error.exit_code() == 4);
      return error.what();
    }
    return "no error";
  };
  CHECK(message_of([&] { file.load("v", DType::kF32); }) == path.string() + ": holds no tensor v");
  CHECK(message_of([&] { file.load("w", DType::kI32); }) ==
        path.string() + ": tensor w holds F32, which cannot be read as i32");
  CHECK(message_of([&] { file.load("ids", DType::kF32); }) ==
        path.string() + ": tensor ids holds I32, which cannot be read as f32");
  CHECK(message_of([&] {
          file.load_into("w", Tensor::zeros({3, 2}, DType::kF32, Device::kCpu));
        }) == path.string() + ": tensor w has shape [2, 3], but the model needs [3, 2]");
  test::write_raw(
      path, test::raw_safetensors(R"({"w":{"dtype":"F8_E4M3","shape":[1,1,1,1,1,1,2],"data_offsets":[0,2]}})",
                                  "ab"));
  CHECK_THAT(message_of([&] { SafetensorsFile(path).load("w", DType::kF32); }),
             test::contains("holds F8_E4M3"));
}

TEST_CASE("a file that shrinks after it was opened is an error") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  write_safetensors(path, Tensors{{"w", Tensor::zeros({100}, DType::kF32, Device::kCpu)}});
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, 300);
  CHECK_THROWS_WITH(file.load("w", DType::kF32), test::contains("ends at byte 300"));
}

TEST_CASE("tensors behind the first 4 GiB are found") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  const std::string header = R"({"big":{"dtype":"U8","shape":[5000000001],"data_offsets":[0,5000000001]},)"
                             R"("w":{"dtype":"F32","shape":[2],"data_offsets":[5000000001,5000000009]}})";
  test::write_raw(path, test::raw_safetensors(header));
  const int64_t data_start = 8 + static_cast<int64_t>(header.size());
  std::filesystem::resize_file(path, static_cast<uintmax_t>(data_start) + 5000000001);
  const float values[] = {1.5f, -2.5f};
  OutputFile(path, ErrorKind::kCheckpoint, OutputFile::Mode::kAppend).write(std::as_bytes(std::span(values)));
  CHECK(SafetensorsFile(path).load("w", DType::kF32).to_vector<float>() == std::vector<float>{1.5f, -2.5f});
}

// 4 GiB of memory and disk: run by name.
TEST_CASE("a tensor of more than 2^31 elements is written and read", "[.large]") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  const int64_t count = (int64_t{1} << 31) + 5;
  const std::vector<int64_t> places = {0, 1, (int64_t{1} << 31) - 1, int64_t{1} << 31, count - 1};
  {
    const Tensor big = Tensor::zeros({count}, DType::kBF16, Device::kCpu);
    for (const int64_t at : places) big.data<bfloat16>()[at] = to_bfloat16(static_cast<float>(at % 97 + 1));
    write_safetensors(path, Tensors{{"w", big}});
  }
  const Tensor loaded = SafetensorsFile(path).load("w", DType::kBF16);
  for (const int64_t at : places)
    CHECK(to_float(loaded.data<bfloat16>()[at]) == static_cast<float>(at % 97 + 1));
}

TEST_CASE("names are checked on writing, and an unfinished file is removed") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  const Tensor value = Tensor::zeros({2}, DType::kF32, Device::kCpu);
  CHECK_THROWS_WITH(write_safetensors(path, Tensors{{"w", value}, {"w", value}}),
                    test::contains("two tensors are named w"));
  CHECK_THROWS_WITH(write_safetensors(path, Tensors{{"__metadata__", value}}), test::contains("is no name"));
  const auto fails = [](const ByteSink&) { SLUICE_FAIL(kData, "the source failed"); };
  CHECK_THROWS_WITH(write_safetensors(path, std::vector<TensorStream>{{"w", StoredType::kF32, {2}, fails}}),
                    test::contains("the source failed"));
  CHECK_FALSE(std::filesystem::exists(path));
  const auto gives_little = [](const ByteSink& sink) { sink(std::as_bytes(std::span("abcd", 4))); };
  CHECK_THROWS_WITH(
      write_safetensors(path, std::vector<TensorStream>{{"w", StoredType::kF32, {2}, gives_little}}),
      test::contains("was written up to byte"));
  if (std::filesystem::exists("/dev/full")) {
    CHECK_THROWS_WITH(write_safetensors("/dev/full", Tensors{{"w", value}}), test::contains("No space left"));
    CHECK(std::filesystem::exists("/dev/full"));
  }
}

TEST_CASE("names that need escaping survive") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  const std::string name = "quote\" back\\slash \n \xC3\xA9";
  SafetensorsOptions options;
  options.metadata = {{"a\"b", "c\td"}, {"format", "pt"}};
  write_safetensors(path, Tensors{{name, Tensor::from<float>({1}, {3})}}, options);
  const SafetensorsFile file(path);
  CHECK(file.has(name));
  CHECK(file.metadata() == options.metadata);
}

TEST_CASE("every half converts to float and back to its bits, and floats round to the nearest half") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = half_to_float(static_cast<uint16_t>(bits));
    const uint16_t back = float_to_half(value);
    if (std::isnan(value)) {
      REQUIRE((back & 0x7c00) == 0x7c00);
      REQUIRE((back & 0x3ff) != 0);
    } else {
      REQUIRE(back == bits);
    }
  }
  // Between neighbours: below the middle, at it (to even), above it.
  for (uint16_t low = 0; low < 0x7bff; low = static_cast<uint16_t>(low + 7)) {
    const double a = half_to_float(low), b = half_to_float(static_cast<uint16_t>(low + 1));
    const auto middle = static_cast<float>((a + b) / 2);
    REQUIRE(float_to_half(middle) == low + (low & 1));
    REQUIRE(float_to_half(std::nextafter(middle, 0.0f)) == low);
    REQUIRE(float_to_half(-std::nextafter(middle, 1e9f)) == (0x8000 | (low + 1)));
  }
  CHECK(float_to_half(65519.99f) == 0x7bff);
  CHECK(float_to_half(65520.0f) == 0x7c00);
  CHECK(float_to_half(-1e30f) == 0xfc00);
}

TEST_CASE("a value keeps its meaning between any two floating types") {
  const StoredType types[] = {StoredType::kF64, StoredType::kF32, StoredType::kBF16, StoredType::kF16};
  // Exact in every one of them.
  const std::vector<double> values = {0.0, -1.5, 0.25, 3.0, -0.0078125, 240.0};
  for (const StoredType from : types) {
    for (const StoredType to : types) {
      INFO(name_of(from) << " to " << name_of(to));
      std::vector<std::byte> first(values.size() * 8), second(values.size() * 8);
      std::vector<double> back(values.size());
      const auto count = static_cast<int64_t>(values.size());
      const auto* given = reinterpret_cast<const std::byte*>(values.data());
      convert_floats(StoredType::kF64, given, from, first.data(), count);
      convert_floats(from, first.data(), to, second.data(), count);
      convert_floats(to, second.data(), StoredType::kF64, reinterpret_cast<std::byte*>(back.data()), count);
      CHECK(back == values);
    }
  }
}
