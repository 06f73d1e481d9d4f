# cmake --install: headers, libraries, the programs as sluice-NAME, and a package for find_package(sluice).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# Everything a program of one's own needs, by one name.
add_library(sluice INTERFACE)
target_link_libraries(sluice INTERFACE sluice_train sluice_evaluation)
target_compile_features(sluice INTERFACE cxx_std_20)
install(TARGETS sluice EXPORT sluice)

install(DIRECTORY src/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/sluice FILES_MATCHING PATTERN "*.h")
install(DIRECTORY kernels DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/sluice FILES_MATCHING PATTERN "*.h")
foreach(program train evaluate generate tokenize convert mqar bench report)
  install(PROGRAMS ${CMAKE_BINARY_DIR}/${program} DESTINATION ${CMAKE_INSTALL_BINDIR} RENAME sluice-${program})
endforeach()

set(SLUICE_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/sluice)
install(EXPORT sluice NAMESPACE sluice:: FILE sluice-targets.cmake DESTINATION ${SLUICE_PACKAGE_DIR})
configure_package_config_file(cmake/sluice-config.cmake.in ${CMAKE_BINARY_DIR}/sluice-config.cmake
                              INSTALL_DESTINATION ${SLUICE_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/sluice-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/sluice-config.cmake ${CMAKE_BINARY_DIR}/sluice-config-version.cmake
              cmake/SluiceDependencies.cmake
        DESTINATION ${SLUICE_PACKAGE_DIR})
