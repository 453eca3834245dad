# The library itself. src/base is a library of its own, without libtorch: the command line shares it.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(ZLIB REQUIRED)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)

# Libraries that flodl can do without: what is missing is a feature that says so.
set(optional_libraries "")
# Drawings as SVG (src/graph/svg.c).
option(FLODL_GRAPHVIZ "lay drawings out with libgraphviz, where it is installed" ON)
if(FLODL_GRAPHVIZ)
  pkg_check_modules(GRAPHVIZ IMPORTED_TARGET libgvc libcgraph)
  if(GRAPHVIZ_FOUND)
    list(APPEND optional_libraries PkgConfig::GRAPHVIZ)
    set_source_files_properties(src/graph/svg.c PROPERTIES COMPILE_DEFINITIONS FLODL_GRAPHVIZ)
  else()
    message(STATUS "libgraphviz is missing: no drawings as SVG")
  endif()
endif()

# Files of torch.save (src/train/zip.c).
option(FLODL_ZIP "read zip files of torch.save by libzip, where it is installed" ON)
if(FLODL_ZIP)
  pkg_check_modules(LIBZIP IMPORTED_TARGET libzip)
  if(LIBZIP_FOUND)
    list(APPEND optional_libraries PkgConfig::LIBZIP)
    set_source_files_properties(src/train/zip.c PROPERTIES COMPILE_DEFINITIONS FLODL_ZIP)
  else()
    message(STATUS "libzip is missing: no files of torch.save")
  endif()
endif()

add_library(flodl_base OBJECT ${base_sources})
target_include_directories(flodl_base PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include)
target_link_libraries(flodl_base PUBLIC ZLIB::ZLIB Threads::Threads m)

# The caller's place for each public function, generated from the headers (see cmake/where.awk).
file(GLOB public_headers CONFIGURE_DEPENDS include/flodl/*.h)
list(FILTER public_headers EXCLUDE REGEX "/flodl\\.h$")
set(where_header ${CMAKE_CURRENT_BINARY_DIR}/include/flodl/where.h)
add_custom_command(OUTPUT ${where_header}
  COMMAND awk -f ${CMAKE_CURRENT_SOURCE_DIR}/cmake/where.awk ${public_headers} > ${where_header}.new
  COMMAND ${CMAKE_COMMAND} -E copy_if_different ${where_header}.new ${where_header}
  DEPENDS ${public_headers} cmake/where.awk VERBATIM)
add_custom_target(flodl_where DEPENDS ${where_header})

# What files of topologies can name, generated from the sources and headers (see cmake/kinds.awk).
set(stock_source ${CMAKE_CURRENT_BINARY_DIR}/stock.c)
set(kind_sources ${c_sources})
list(FILTER kind_sources INCLUDE REGEX "/src/(nn|graph)/")
add_custom_command(OUTPUT ${stock_source}
  COMMAND awk -f ${CMAKE_CURRENT_SOURCE_DIR}/cmake/kinds.awk ${public_headers} ${kind_sources} > ${stock_source}.new
  COMMAND ${CMAKE_COMMAND} -E copy_if_different ${stock_source}.new ${stock_source}
  DEPENDS ${public_headers} ${kind_sources} cmake/kinds.awk VERBATIM)

set_source_files_properties(${stock_source} PROPERTIES INCLUDE_DIRECTORIES ${CMAKE_CURRENT_SOURCE_DIR}/src)

add_library(flodl_objects OBJECT ${torch_sources} ${c_sources} ${stock_source})
add_dependencies(flodl_objects flodl_where)
target_compile_definitions(flodl_objects PRIVATE FDL_NO_WHERE)
target_link_libraries(flodl_objects PUBLIC flodl_base
  PRIVATE flodl_libtorch PkgConfig::JANSSON ZLIB::ZLIB ${optional_libraries})
# libtorch is built with NDEBUG, and some of its classes have other members without it: in every preset.
set_source_files_properties(${torch_sources} PROPERTIES COMPILE_DEFINITIONS NDEBUG
  # lines are enough for wrappers; libtorch's types in the debug information cost a quarter of the time
  COMPILE_OPTIONS $<$<CONFIG:RelWithDebInfo>:-g1>)

# The CUDA part where it can be compiled but not linked (flodl_libtorch.cmake says when): compiled only.
file(GLOB cuda_sources CONFIGURE_DEPENDS src/tensor/cuda*.cpp)
if(FLODL_CUDA_COMPILES AND NOT libtorch_links_cuda AND cuda_sources)
  add_library(flodl_cuda_compiles OBJECT ${cuda_sources})
  target_compile_definitions(flodl_cuda_compiles PRIVATE FDL_NO_WHERE FLODL_CUDA)
  target_include_directories(flodl_cuda_compiles SYSTEM PRIVATE ${FLODL_CUDA_INCLUDE})
  target_link_libraries(flodl_cuda_compiles PRIVATE flodl_base flodl_libtorch)
  add_dependencies(flodl_cuda_compiles flodl_where)
endif()

# Both libraries are made of the same objects.
function(flodl_add_library name type)
  add_library(${name} ${type} $<TARGET_OBJECTS:flodl_objects> $<TARGET_OBJECTS:flodl_base>)
  set_target_properties(${name} PROPERTIES OUTPUT_NAME flodl VERSION ${PROJECT_VERSION} SOVERSION 0
    INSTALL_RPATH_USE_LINK_PATH ON)
  add_dependencies(${name} flodl_where)
  target_include_directories(${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include ${CMAKE_CURRENT_BINARY_DIR}/include)
  target_link_libraries(${name} PRIVATE flodl_libtorch PkgConfig::JANSSON ZLIB::ZLIB ${optional_libraries}
    Threads::Threads m)
endfunction()
flodl_add_library(flodl SHARED)
# Nothing but fdl_* leaves the library: what libtorch's headers instantiate stays inside.
target_link_options(flodl PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/cmake/flodl.map)
set_target_properties(flodl PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cmake/flodl.map)
if(FLODL_STATIC)
  flodl_add_library(flodl_static STATIC)
endif()
