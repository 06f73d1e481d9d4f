#include "profile/intervals.h"

#include "support/catch.h"

using namespace sluice::profile;

TEST_CASE("intervals that overlap, touch or lie inside others become one") {
  CHECK(united({}).empty());
  CHECK(united({{7, 9}, {1, 3}, {3, 4}, {2, 3}, {8, 8}, {9, 9}, {20, 10}}) ==
        std::vector<Interval>{{1, 4}, {7, 9}});
  CHECK(united({{0, 100}, {10, 20}, {90, 110}}) == std::vector<Interval>{{0, 110}});
  CHECK(total_length(united({{1, 4}, {7, 9}})) == 5);
}

TEST_CASE("the intersection of two sets of intervals") {
  const std::vector<Interval> a{{0, 10}, {20, 30}, {40, 50}};
  CHECK(intersection(a, {}).empty());
  CHECK(intersection(a, a) == a);
  CHECK(intersection(a, {{10, 20}, {30, 40}}).empty());
  CHECK(intersection(a, {{5, 25}, {28, 29}, {45, 60}}) ==
        std::vector<Interval>{{5, 10}, {20, 25}, {28, 29}, {45, 50}});
  CHECK(intersection({{5, 25}, {28, 29}, {45, 60}}, a) == intersection(a, {{5, 25}, {28, 29}, {45, 60}}));
}
