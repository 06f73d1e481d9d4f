# sluice_report_page(VARIABLE): sets VARIABLE to a source file that defines what src/train/report_page.h declares. With
# node and npm it is the page, bundled by the build; without them, or where npm reaches no registry, it says why not,
# and the next configuration tries again.
set(SLUICE_REPORT_WEB ${CMAKE_CURRENT_LIST_DIR})

# Installs the packages of the lock file beside a copy of the page's sources, once for each lock file.
function(sluice_report_packages FOLDER FAILURE)
  set(${FAILURE} "" PARENT_SCOPE)
  find_program(SLUICE_NODE node)
  find_program(SLUICE_NPM npm)
  mark_as_advanced(SLUICE_NODE SLUICE_NPM)
  if(NOT SLUICE_NODE OR NOT SLUICE_NPM)
    set(${FAILURE} "node and npm were not found when sluice was built" PARENT_SCOPE)
    return()
  endif()
  file(SHA256 ${SLUICE_REPORT_WEB}/package-lock.json wanted)
  set(stamp ${FOLDER}/installed)
  if(EXISTS ${stamp})
    file(READ ${stamp} installed)
  endif()
  if(NOT "${installed}" STREQUAL "${wanted}")
    file(COPY ${SLUICE_REPORT_WEB}/package.json ${SLUICE_REPORT_WEB}/package-lock.json DESTINATION ${FOLDER})
    execute_process(
      COMMAND ${SLUICE_NPM} ci --ignore-scripts --no-audit --no-fund --prefer-offline --fetch-retries=1
      WORKING_DIRECTORY ${FOLDER}
      TIMEOUT 120
      RESULT_VARIABLE code
      OUTPUT_FILE ${FOLDER}/npm.log
      ERROR_FILE ${FOLDER}/npm.log)
    if(NOT code EQUAL 0)
      message(STATUS "sluice: npm failed, see ${FOLDER}/npm.log")
      set(${FAILURE} "npm could not install the page's packages when sluice was built (${code})" PARENT_SCOPE)
      return()
    endif()
    file(WRITE ${stamp} "${wanted}")
  endif()
endfunction()

function(sluice_report_page VARIABLE)
  set(folder ${PROJECT_BINARY_DIR}/report_page)
  sluice_report_packages(${folder} failure)
  if(failure)
    message(STATUS "sluice: no report.html: ${failure}")
    set(page ${folder}/no_report_page.cpp)
    file(CONFIGURE OUTPUT ${page} @ONLY CONTENT [[
#include "train/report_page.h"

namespace sluice {

const std::string_view kReportPage;
const std::string_view kReportMissingReason = "@failure@";

}  // namespace sluice
]])
  else()
    set(page ${folder}/report_page.cpp)
    set(sources)
    foreach(name bundle.mjs charts.js data.js format.js main.js page.css page.html texts.js)
      list(APPEND sources ${SLUICE_REPORT_WEB}/${name})
    endforeach()
    add_custom_command(
      OUTPUT ${page}
      COMMAND ${CMAKE_COMMAND} -E copy ${sources} ${folder}
      COMMAND ${SLUICE_NODE} bundle.mjs ${page}
      DEPENDS ${sources} ${SLUICE_REPORT_WEB}/package-lock.json
      WORKING_DIRECTORY ${folder}
      COMMENT "Bundling the report page"
      VERBATIM)
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${SLUICE_REPORT_WEB}/package-lock.json)
  set(${VARIABLE} ${page} PARENT_SCOPE)
endfunction()
