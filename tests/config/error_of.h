// The message of the Error that `body` throws; the test fails without one or with another exit code.
#pragma once

#include <string>

#include "core/error.h"
#include "support/catch.h"

namespace sluice::test {

template <class Body>
std::string error_of(ErrorKind kind, Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    CHECK(error.exit_code() == static_cast<int>(kind));
    return error.what();
  }
  FAIL_CHECK("no error was thrown");
  return "";
}

}  // namespace sluice::test
