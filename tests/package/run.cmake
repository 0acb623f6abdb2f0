# cmake -DBUILD=... -DSOURCE=... -DSTAGE=... -P run.cmake: installs the build under STAGE, builds the C example against
# it through find_package (both libraries) and through pkg-config, and runs all three and the installed program.
function(run)
  cmake_parse_arguments(ARG "" "OUTPUT" "ENVIRONMENT;COMMAND" ${ARGN})
  execute_process(COMMAND ${CMAKE_COMMAND} -E env ${ARG_ENVIRONMENT} ${ARG_COMMAND}
    WORKING_DIRECTORY "${STAGE}" RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARG_COMMAND}\nfailed with ${result}:\n${output}")
  endif()
  if(ARG_OUTPUT)
    string(STRIP "${output}" output)
    set(${ARG_OUTPUT} "${output}" PARENT_SCOPE)
  endif()
endfunction()

file(REMOVE_RECURSE "${STAGE}")
file(MAKE_DIRECTORY "${STAGE}")
run(COMMAND ${CMAKE_COMMAND} --install "${BUILD}" --prefix "${STAGE}/first")
# The installed tree can be moved.
file(RENAME "${STAGE}/first" "${STAGE}/prefix")

set(example "${SOURCE}/examples/upscale_raw.c")
run(COMMAND ${CMAKE_COMMAND} -S "${SOURCE}/tests/package" -B "${STAGE}/build" -G Ninja "-DEXAMPLE=${example}"
  "-DCMAKE_PREFIX_PATH=${STAGE}/prefix" -DCMAKE_BUILD_TYPE=Release)
run(COMMAND ${CMAKE_COMMAND} --build "${STAGE}/build")

file(GLOB_RECURSE pc_file "${STAGE}/prefix/*/flashvsr.pc")
get_filename_component(pc_dir "${pc_file}" DIRECTORY)
run(OUTPUT flags ENVIRONMENT "PKG_CONFIG_PATH=${pc_dir}" COMMAND pkg-config --cflags --libs flashvsr)
separate_arguments(flags UNIX_COMMAND "${flags}")
run(COMMAND cc -std=c11 -Wall -Wextra -Werror "${example}" -o "${STAGE}/through_pkg_config" ${flags})
run(OUTPUT version ENVIRONMENT "PKG_CONFIG_PATH=${pc_dir}" COMMAND pkg-config --modversion flashvsr)
if(NOT version STREQUAL "${VERSION}")
  message(FATAL_ERROR "flashvsr.pc says version ${version}, the project ${VERSION}")
endif()

get_filename_component(library_dir "${pc_dir}" DIRECTORY)
# 25 grey frames of 32x32 through the built-in model to 64x64: as many frames must come out, the same from each program.
string(REPEAT "g" 3072 frame)
string(REPEAT "${frame}" 25 frames)
file(WRITE "${STAGE}/frames.rgb" "${frames}")
foreach(program build/shared build/static through_pkg_config)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env "LD_LIBRARY_PATH=${library_dir}"
      "FLASHVSR_MODEL_PATH=${STAGE}/prefix/share/flashvsr/models" "${STAGE}/${program}" 32 32 2
    INPUT_FILE "${STAGE}/frames.rgb" OUTPUT_FILE "${STAGE}/out.rgb" ERROR_VARIABLE error RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${program} failed with ${result}: ${error}")
  endif()
  file(SIZE "${STAGE}/out.rgb" bytes)
  if(NOT bytes EQUAL 307200)  # 25 x 64 x 64 x 3
    message(FATAL_ERROR "${program} wrote ${bytes} bytes instead of 307200")
  endif()
  file(SHA256 "${STAGE}/out.rgb" hash)
  if(DEFINED first_hash AND NOT hash STREQUAL first_hash)
    message(FATAL_ERROR "${program} gave other frames than the programs before it")
  endif()
  set(first_hash "${hash}")
endforeach()

# The installed program finds its library and its model by itself.
run(OUTPUT information ENVIRONMENT --unset=LD_LIBRARY_PATH --unset=FLASHVSR_MODEL_PATH
  COMMAND "${STAGE}/prefix/bin/flashvsr" info --json)
if(NOT information MATCHES "nano")
  message(FATAL_ERROR "the installed program does not know its model:\n${information}")
endif()
