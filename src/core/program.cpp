#include "core/program.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>

#include "core/environment.h"
#include "core/error.h"
#include "core/progress.h"

namespace sluice {
namespace {

int report(ErrorKind kind, const char* message) {
  Progress::clear_line();
  std::fprintf(stderr, "error: %s\n", message);
  return static_cast<int>(kind);
}

}  // namespace

int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  try {
    app.parse(argc, argv);
    return body();
  } catch (const CLI::ParseError& error) {
    // Asking for help arrives here too, with code 0.
    return app.exit(error) == 0 ? 0 : static_cast<int>(ErrorKind::kUsage);
  } catch (const Error& error) {
    const int code = report(error.kind(), error.what());
    if (environment::text("SLUICE_LOG_LEVEL", "info") == "debug") {
      std::fprintf(stderr, "thrown at %s\n", error.where().c_str());
    }
    return code;
  } catch (const std::bad_alloc&) {
    return report(ErrorKind::kOutOfMemory, "out of memory");
  } catch (const std::exception& error) {
    return report(ErrorKind::kInternal, error.what());
  }
}

}  // namespace sluice
