# What an installed waxvm consists of: the public headers, the static library, the shared C library,
# and how find_package(waxvm) and pkg-config find them.
include_guard()
include(CMakePackageConfigHelpers)

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/waxvm)

install(DIRECTORY include/waxvm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING
        PATTERN "*.h" PATTERN "*.capnp")
install(DIRECTORY bindings/c/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS waxvm waxvm_c waxvm_guest EXPORT waxvmTargets)
install(EXPORT waxvmTargets NAMESPACE waxvm:: DESTINATION ${config_dir})
foreach(optional IN ITEMS waxvm_coap_edge waxvm_dht waxvm_nats)
  if(TARGET ${optional})
    # Outside of the exported targets, so that nobody else has to find libcoap, libtorrent or
    # libnats: its users link it themselves.
    install(TARGETS ${optional})
  endif()
endforeach()
if(WAXVM_BUILD_EXAMPLES)
  install(TARGETS waxvm_command)
endif()

configure_package_config_file(cmake/waxvmConfig.cmake.in waxvmConfig.cmake
                              INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(waxvmConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/waxvmConfig.cmake ${PROJECT_BINARY_DIR}/waxvmConfigVersion.cmake
        DESTINATION ${config_dir})

foreach(name waxvm waxvm_c waxvm_guest)
  configure_file(cmake/${name}.pc.in ${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
