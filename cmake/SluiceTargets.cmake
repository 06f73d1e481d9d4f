# Where a library's headers are, here and once installed, and that it is installed.
function(sluice_install_library NAME)
  target_include_directories(sluice_${NAME} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                                   $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>
                                                   $<INSTALL_INTERFACE:include/sluice>)
  set_target_properties(sluice_${NAME} PROPERTIES EXPORT_NAME ${NAME})
  install(TARGETS sluice_${NAME} EXPORT sluice ARCHIVE DESTINATION lib/sluice)
endfunction()

# sluice_library(NAME SOURCES a.cpp ... [LINKS core ...] [PRIVATE_LINKS pkg::target ...])
#   One folder, one static library `sluice_NAME`. LINKS name sibling folders. Headers are included from
#   the repository's root for kernels ("kernels/...") and from src/ for the rest ("core/error.h").
function(sluice_library NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PUBLIC_LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(sluice_${NAME} STATIC ${ARG_SOURCES})
  sluice_install_library(${NAME})
  foreach(dependency IN LISTS ARG_LINKS)
    target_link_libraries(sluice_${NAME} PUBLIC sluice_${dependency})
  endforeach()
  target_link_libraries(sluice_${NAME} PUBLIC ${ARG_PUBLIC_LINKS} PRIVATE ${ARG_PRIVATE_LINKS})
endfunction()

# sluice_program(NAME SOURCES ... LINKS ...): an executable in the build directory's root.
function(sluice_program NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_executable(${NAME} ${ARG_SOURCES})
  foreach(dependency IN LISTS ARG_LINKS)
    target_link_libraries(${NAME} PRIVATE sluice_${dependency})
  endforeach()
  target_link_libraries(${NAME} PRIVATE CLI11::CLI11 ${ARG_PRIVATE_LINKS})
endfunction()

# sluice_test(NAME SOURCES ... LINKS ...): one test program per folder; every TEST_CASE becomes a ctest test. They are
# about the CPU, on machines with a GPU, too.
function(sluice_test NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_executable(test_${NAME} ${ARG_SOURCES})
  foreach(dependency IN LISTS ARG_LINKS)
    target_link_libraries(test_${NAME} PRIVATE sluice_${dependency})
  endforeach()
  target_link_libraries(test_${NAME} PRIVATE sluice_test_support ${ARG_PRIVATE_LINKS})
  set_target_properties(test_${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_compile_definitions(test_${NAME} PRIVATE SLUICE_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                                  SLUICE_BINARY_DIR="${PROJECT_BINARY_DIR}")
  catch_discover_tests(test_${NAME} TEST_PREFIX "${NAME}: " DISCOVERY_MODE PRE_TEST
                       PROPERTIES TIMEOUT 600 ENVIRONMENT "SLUICE_POISON=1;OMP_NUM_THREADS=2;CUDA_VISIBLE_DEVICES=-1")
endfunction()

# sluice_gpu_test(NAME SOURCES ... LINKS ...): the same for tests that need a GPU. They bring a main of their own, which
# skips them where there is none.
function(sluice_gpu_test NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_executable(test_gpu_${NAME} ${ARG_SOURCES})
  foreach(dependency IN LISTS ARG_LINKS)
    target_link_libraries(test_gpu_${NAME} PRIVATE sluice_${dependency})
  endforeach()
  target_link_libraries(test_gpu_${NAME} PRIVATE sluice_gpu_test_main ${ARG_PRIVATE_LINKS})
  set_target_properties(test_gpu_${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_compile_definitions(test_gpu_${NAME} PRIVATE SLUICE_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                                      SLUICE_BINARY_DIR="${PROJECT_BINARY_DIR}")
  catch_discover_tests(test_gpu_${NAME} TEST_PREFIX "gpu ${NAME}: " DISCOVERY_MODE PRE_TEST
                       PROPERTIES TIMEOUT 900 SKIP_RETURN_CODE 77)
endfunction()
