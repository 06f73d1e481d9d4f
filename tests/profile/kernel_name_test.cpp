#include "profile/kernel_name.h"

#include "support/catch.h"

using namespace sluice::profile;

TEST_CASE("kernels are shown without result, namespaces and arguments") {
  CHECK(short_kernel_name("void sluice::kernels::(anonymous namespace)::sum_stripes<float, 4>("
                          "sluice::kernels::ColumnSums<float>, long, float*)") == "sum_stripes<float, 4>");
  CHECK(short_kernel_name("sluice::kernels::add(int)") == "add");
  CHECK(short_kernel_name("void a::f<(b::E)3, c::D<2> >(int (*)(int))") == "f<(b::E)3, c::D<2> >");
}

TEST_CASE("kernel names of another form stay as they are") {
  const std::string product = "nvjet_tst_128x256_64x4_2x1_v_bz_coopA_NTT";
  CHECK(short_kernel_name(product) == product);
  CHECK(short_kernel_name("") == "");
  CHECK(short_kernel_name("(odd)") == "(odd)");
}

TEST_CASE("NCCL's kernels are told from others") {
  CHECK(is_collective(
      short_kernel_name("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)")));
  CHECK_FALSE(is_collective("squared_norm<float>"));
}
