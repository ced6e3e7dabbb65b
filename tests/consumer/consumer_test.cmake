# Installs BUILD_DIR into a prefix of its own, moves that, and builds and runs the outside project
# against it: with find_package(waxvm), then with pkg-config alone.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE code OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(NOT code EQUAL 0)
    list(JOIN ARGV " " shown)
    message(FATAL_ERROR "${shown}: ${code}\n${text}")
  endif()
  message(STATUS "${ARGV0}: ok\n${text}")
endfunction()

function(pkg_config result)
  execute_process(COMMAND pkg-config ${ARGN} OUTPUT_VARIABLE text OUTPUT_STRIP_TRAILING_WHITESPACE
                  COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(text UNIX_COMMAND "${text}")
  set(${result} ${text} PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/first)
# An install that was moved must work as well.
file(RENAME ${WORK_DIR}/first ${WORK_DIR}/prefix)
set(prefix ${WORK_DIR}/prefix)
foreach(name IN ITEMS lib/libwaxvm.a lib/libwaxvm_c.so include/waxvm/supervisor.h include/waxvm_c.h
                      lib/libwaxvm_guest.a include/waxvm/guest.h include/waxvm/guest_value.h
                      include/waxvm_c_pool.h include/waxvm_c_value.h lib/pkgconfig/waxvm_guest.pc
                      lib/pkgconfig/waxvm.pc lib/cmake/waxvm/waxvmConfig.cmake bin/waxvm)
  string(REGEX REPLACE "^lib/" "${LIBDIR}/" name ${name})
  if(NOT EXISTS ${prefix}/${name})
    message(FATAL_ERROR "${name} was not installed")
  endif()
endforeach()

run(${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${WORK_DIR}/build -G ${GENERATOR}
    -D CMAKE_PREFIX_PATH=${prefix} -D CMAKE_C_COMPILER=${CC} -D CMAKE_CXX_COMPILER=${CXX}
    -D CMAKE_C_FLAGS=${CFLAGS} -D CMAKE_CXX_FLAGS=${CXXFLAGS})
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/consumer_cpp)
run(${WORK_DIR}/build/consumer_c)
run(${WORK_DIR}/build/consumer_guest)

set(ENV{PKG_CONFIG_PATH} ${prefix}/${LIBDIR}/pkgconfig)
separate_arguments(CFLAGS UNIX_COMMAND "${CFLAGS}")
separate_arguments(CXXFLAGS UNIX_COMMAND "${CXXFLAGS}")
pkg_config(flags --cflags --libs waxvm)
run(${CXX} ${CXXFLAGS} -o ${WORK_DIR}/pkg_cpp ${SOURCE_DIR}/main.cc ${flags})
run(${WORK_DIR}/pkg_cpp)
pkg_config(flags --cflags --libs waxvm_c)
pkg_config(libdir --variable=libdir waxvm_c)
run(${CC} ${CFLAGS} -std=c11 -o ${WORK_DIR}/pkg_c ${SOURCE_DIR}/main.c ${flags} -Wl,-rpath,${libdir})
run(${WORK_DIR}/pkg_c)
pkg_config(flags --cflags --libs waxvm_guest)
run(${CC} -std=c11 -static -o ${WORK_DIR}/pkg_guest ${SOURCE_DIR}/guest.c ${flags})
run(${WORK_DIR}/pkg_guest)
