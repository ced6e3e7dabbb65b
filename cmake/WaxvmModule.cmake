# waxvm_module(NAME <folder under src/> LAYER <0..5> [DEPENDS <modules>…] [LINK <targets>…])
#
# Declares one module: every .cc and .S below src/<NAME> except *_test.cc becomes part of the
# library, and every *_test.cc is built into <NAME>_test. DEPENDS is the whole list of modules whose
# headers it may include; an include of any other module, or a dependency on a module of the same
# or a higher layer, is a configure error. LINK names outside libraries.
include_guard()

# Reads the sources, so that a forbidden include fails before anything compiles.
function(_waxvm_check_includes name depends)
  file(GLOB_RECURSE files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.h
       ${PROJECT_SOURCE_DIR}/src/${name}/*.cc ${PROJECT_SOURCE_DIR}/src/${name}/*.c
       ${PROJECT_SOURCE_DIR}/src/${name}/*.S)
  foreach(file IN LISTS files)
    file(RELATIVE_PATH shown ${PROJECT_SOURCE_DIR} ${file})
    file(STRINGS ${file} includes REGEX "^[ \t]*#[ \t]*include[ \t]*[<\"](src/|\\.\\./)")
    foreach(line IN LISTS includes)
      if(NOT line MATCHES "[<\"]src/([a-z_0-9]+)/")
        message(FATAL_ERROR "${shown}: write an include as \"src/<module>/<header>\", not ${line}")
      endif()
      set(used ${CMAKE_MATCH_1})
      if(NOT used STREQUAL name AND NOT used IN_LIST depends)
        message(FATAL_ERROR "${shown} includes module '${used}', which '${name}' does not declare "
                            "in DEPENDS")
      endif()
    endforeach()
  endforeach()
endfunction()

function(waxvm_module)
  cmake_parse_arguments(M "" "NAME;LAYER" "DEPENDS;LINK" ${ARGN})
  foreach(dependency IN LISTS M_DEPENDS)
    get_property(layer GLOBAL PROPERTY waxvm_layer_${dependency})
    if("${layer}" STREQUAL "")
      message(FATAL_ERROR "module '${M_NAME}' depends on '${dependency}', which is not declared yet")
    endif()
    if(NOT layer LESS M_LAYER)
      message(FATAL_ERROR "module '${M_NAME}' (layer ${M_LAYER}) must not depend on '${dependency}' "
                          "(layer ${layer}): a module uses only layers below it")
    endif()
  endforeach()
  set_property(GLOBAL PROPERTY waxvm_layer_${M_NAME} ${M_LAYER})
  set_property(GLOBAL APPEND PROPERTY waxvm_modules ${M_NAME})
  _waxvm_check_includes(${M_NAME} "${M_DEPENDS}")

  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${M_NAME}/*.cc
       ${PROJECT_SOURCE_DIR}/src/${M_NAME}/*.c ${PROJECT_SOURCE_DIR}/src/${M_NAME}/*.S)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "/standalone/")

  add_library(waxvm_${M_NAME} OBJECT ${sources})
  target_link_libraries(waxvm_${M_NAME} PUBLIC waxvm_options ${M_LINK})
  waxvm_precompile(LIBRARY waxvm_${M_NAME})
  set_property(GLOBAL APPEND PROPERTY waxvm_outside_libraries ${M_LINK})
  if(tests AND WAXVM_BUILD_TESTS)
    set_property(GLOBAL APPEND PROPERTY waxvm_test_modules ${M_NAME})
    set_property(GLOBAL PROPERTY waxvm_tests_${M_NAME} "${tests}")
  endif()
endfunction()

# Called once after all modules: the unit tests link the whole library, and find the guest programs
# of tests/guests in WAXVM_GUEST_DIR (an environment variable of that name goes before it).
function(waxvm_module_tests)
  get_property(modules GLOBAL PROPERTY waxvm_test_modules)
  foreach(name IN LISTS modules)
    get_property(tests GLOBAL PROPERTY waxvm_tests_${name})
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE waxvm waxvm_options GTest::gmock GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE WAXVM_GUEST_DIR="${WAXVM_GUEST_DIR}")
    add_dependencies(${name}_test waxvm_guests)
    waxvm_precompile(TEST ${name}_test)
    add_test(NAME ${name}_test COMMAND ${name}_test)
    set_tests_properties(${name}_test PROPERTIES TIMEOUT 300)
  endforeach()
endfunction()
