# What `cmake --install` puts down: libraries, headers, and how CMake (flodlConfig.cmake) and pkg-config (flodl.pc) find
# them. The installed tree may be moved; the libtorch found at build time is a default that can be changed.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS flodl LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(FLODL_STATIC)
  install(TARGETS flodl_static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(DIRECTORY include/flodl DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${where_header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flodl)

# What a static link needs besides libflodl.a, as one line of linker words.
set(torch_lib ${libtorch_dir}/lib)
set(static_libs "-L${torch_lib} -Wl,-rpath,${torch_lib} -ltorch_cpu -lc10")
if(libtorch_links_cuda)
  string(APPEND static_libs " ${cudart} -Wl,--push-state,--no-as-needed,-ltorch_cuda,-lc10_cuda,--pop-state")
endif()
if(GRAPHVIZ_FOUND)
  string(APPEND static_libs " -lgvc -lcgraph -lcdt")
endif()
if(LIBZIP_FOUND)
  string(APPEND static_libs " -lzip")
endif()
string(APPEND static_libs " -lstdc++ -lm -lpthread")

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/flodl)
configure_package_config_file(cmake/flodlConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/flodlConfig.cmake
  INSTALL_DESTINATION ${config_dir} PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/flodlConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/flodlConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/flodlConfigVersion.cmake
  DESTINATION ${config_dir})

configure_file(cmake/flodl.pc.in ${CMAKE_CURRENT_BINARY_DIR}/flodl.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/flodl.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
