// Preloaded into crash_writer: counts its calls of write, fsync, rename and mkdir and spoils one of them.
//   FAULT_SHIM_AT      number of the call, from 1; 0: none
//   FAULT_SHIM_ACTION  "enospc" or "eio": the call fails; "kill": SIGKILL before it;
//                      "torn": SIGKILL after half of it, for a write
//   FAULT_SHIM_REPORT  file that gets the number of calls when the program exits
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static long calls;

// Whether this call is to fail, with errno set. Does not return when it is to end the process, unless the
// caller tears its write first.
static int spoiled(int is_write) {
  const char* at = getenv("FAULT_SHIM_AT");
  const char* action = getenv("FAULT_SHIM_ACTION");
  if (++calls != (at ? atol(at) : 0) || !action) return 0;
  if (strcmp(action, "kill") == 0 || (strcmp(action, "torn") == 0 && !is_write)) raise(SIGKILL);
  errno = strcmp(action, "eio") == 0 ? EIO : ENOSPC;
  return 1;
}

ssize_t write(int descriptor, const void* bytes, size_t size) {
  if (descriptor > 2 && spoiled(1)) {
    const char* action = getenv("FAULT_SHIM_ACTION");
    if (strcmp(action, "torn") != 0) return -1;
    syscall(SYS_write, descriptor, bytes, size / 2);
    raise(SIGKILL);
  }
  return syscall(SYS_write, descriptor, bytes, size);
}

// Killing a process loses nothing the kernel has, so there is no need to wait for the disk.
int fsync(int descriptor) {
  (void)descriptor;
  return spoiled(0) ? -1 : 0;
}

int rename(const char* from, const char* to) {
  return spoiled(0) ? -1 : (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
}

int mkdir(const char* path, mode_t mode) {
  return spoiled(0) ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

__attribute__((destructor)) static void report(void) {
  const char* path = getenv("FAULT_SHIM_REPORT");
  if (!path) return;
  const int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  char text[32];
  const int size = snprintf(text, sizeof text, "%ld", calls);
  syscall(SYS_write, descriptor, text, (size_t)size);
  close(descriptor);
}
