# Libraries of which headers or sources are enough: the system's packages, or what scripts/carry-headers has copied from a
# system that has them.
set(FLASHVSR_HEADERS "" CACHE PATH "Folder made by scripts/carry-headers, for what the system lacks")

# flashvsr_find_headers(PACKAGE TARGET HEADER [DEFINITIONS...]): TARGET from the system's package, or from its headers alone.
function(flashvsr_find_headers package target header)
  find_package(${package} QUIET)
  if(TARGET ${target})
    return()
  endif()
  find_path(${package}_HEADERS ${header} HINTS "${FLASHVSR_HEADERS}/include")
  mark_as_advanced(${package}_HEADERS)
  if(NOT ${package}_HEADERS)
    message(FATAL_ERROR "${package} (${header}) was not found: install it (scripts/install-packages build), or name a "
      "folder made by scripts/carry-headers with -DFLASHVSR_HEADERS=DIR")
  endif()
  message(STATUS "${package}: headers of ${${package}_HEADERS}")
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} SYSTEM INTERFACE "${${package}_HEADERS}")
  target_compile_definitions(${target} INTERFACE ${ARGN})
endfunction()

# GTest::gtest and GTest::gtest_main from the system's package, or from sources.
function(flashvsr_find_googletest)
  find_package(GTest QUIET)
  if(TARGET GTest::gtest_main)
    return()
  endif()
  find_path(GTest_SOURCES src/gtest-all.cc HINTS "${FLASHVSR_HEADERS}/googletest" /usr/src/googletest/googletest)
  mark_as_advanced(GTest_SOURCES)
  if(NOT GTest_SOURCES)
    message(FATAL_ERROR "GoogleTest was not found: install it (scripts/install-packages test), name a folder made by "
      "scripts/carry-headers with -DFLASHVSR_HEADERS=DIR, or leave the tests out with -DFLASHVSR_TESTS=OFF")
  endif()
  message(STATUS "GoogleTest: sources of ${GTest_SOURCES}")
  add_library(flashvsr_googletest STATIC "${GTest_SOURCES}/src/gtest-all.cc" "${GTest_SOURCES}/src/gtest_main.cc")
  target_include_directories(flashvsr_googletest SYSTEM PUBLIC "${GTest_SOURCES}/include" PRIVATE "${GTest_SOURCES}")
  target_link_libraries(flashvsr_googletest PUBLIC Threads::Threads)
  add_library(GTest::gtest ALIAS flashvsr_googletest)
  add_library(GTest::gtest_main ALIAS flashvsr_googletest)
endfunction()
