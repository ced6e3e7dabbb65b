# A scratch copy of the tree configures; each forbidden dependency put into it makes that fail, with
# the module named.
function(configure result output)
  file(REMOVE_RECURSE ${WORK_DIR}/build)
  execute_process(COMMAND ${CMAKE_COMMAND} -S ${WORK_DIR}/tree -B ${WORK_DIR}/build -G ${GENERATOR}
                          -D WAXVM_BUILD_TESTS=OFF -D WAXVM_BUILD_BENCHMARKS=OFF
                          -D WAXVM_BUILD_EXAMPLES=OFF
                  RESULT_VARIABLE code OUTPUT_VARIABLE text ERROR_VARIABLE text)
  # CMake wraps its messages.
  string(REGEX REPLACE "[ \n]+" " " text "${text}")
  set(${result} ${code} PARENT_SCOPE)
  set(${output} "${text}" PARENT_SCOPE)
endfunction()

function(copy_tree)
  file(REMOVE_RECURSE ${WORK_DIR}/tree)
  foreach(part IN ITEMS CMakeLists.txt cmake src include bindings)
    file(COPY ${SOURCE_DIR}/${part} DESTINATION ${WORK_DIR}/tree)
  endforeach()
endfunction()

function(expect_refusal what message)
  configure(result output)
  if(result EQUAL 0)
    message(SEND_ERROR "${what}: configured, but must not")
  elseif(NOT output MATCHES "${message}")
    message(SEND_ERROR "${what}: refused without '${message}':\n${output}")
  else()
    message(STATUS "${what}: refused")
  endif()
  copy_tree()
endfunction()

set(list ${WORK_DIR}/tree/src/CMakeLists.txt)
copy_tree()
configure(result output)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "the unchanged copy does not configure:\n${output}")
endif()

file(WRITE ${WORK_DIR}/tree/src/base/upward.cc "#include \"src/supervisor/supervisor.h\"\n")
expect_refusal("an include of an undeclared module"
               "src/base/upward.cc includes module 'supervisor'")

file(WRITE ${WORK_DIR}/tree/src/vmm/spaced.h "  #  include <src/linux_abi/process.h>\n")
expect_refusal("the same, written another way" "src/vmm/spaced.h includes module 'linux_abi'")

file(WRITE ${WORK_DIR}/tree/src/base/relative.cc "#include \"../image/elf.h\"\n")
expect_refusal("a relative include" "src/base/relative.cc: write an include as")

file(READ ${list} text)
string(REPLACE "NAME kvm LAYER 1 DEPENDS base" "NAME kvm LAYER 1 DEPENDS base image" text "${text}")
file(WRITE ${list} "${text}")
expect_refusal("a dependency within a layer" "module 'kvm' .layer 1. must not depend on 'image'")

file(READ ${list} text)
string(REPLACE "NAME base LAYER 0" "NAME base LAYER 0 DEPENDS vmm" text "${text}")
file(WRITE ${list} "${text}")
expect_refusal("a dependency upward" "module 'base' depends on 'vmm', which is not declared yet")
