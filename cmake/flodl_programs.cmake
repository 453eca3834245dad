# Examples (examples/<name>/<name>.c) and benchmarks (benchmarks/<name>.c): one file each, public headers only. To add
# one is to add its file.
option(FLODL_EXAMPLES "build the examples and benchmarks" ${PROJECT_IS_TOP_LEVEL})
if(NOT FLODL_EXAMPLES)
  return()
endif()
function(flodl_add_program target name source folder)
  add_executable(${target} ${source})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${name}
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/${folder})
  target_link_libraries(${target} PRIVATE flodl m)
  target_compile_definitions(${target} PRIVATE FLODL_SOURCE_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
endfunction()

file(GLOB examples CONFIGURE_DEPENDS examples/*/*.c)
foreach(source ${examples})
  get_filename_component(name ${source} NAME_WE)
  flodl_add_program(${name} ${name} ${source} examples)
endforeach()

# What benchmarks share (benchmarks/parts), and their models. It records what a GPU does through CUPTI where that has its header; the library
# itself is loaded at run time.
find_path(FLODL_CUPTI_INCLUDE cupti.h HINTS ${FLODL_CUDA_INCLUDE} ${FLODL_CUDA_INCLUDE}/../extras/CUPTI/include
  $ENV{CUDA_HOME}/include $ENV{CUDA_HOME}/extras/CUPTI/include /usr/local/cuda/include /usr/local/cuda/extras/CUPTI/include)
file(GLOB parts CONFIGURE_DEPENDS benchmarks/parts/*.c benchmarks/models/*.c)
add_library(flodl_bench_parts STATIC ${parts})
target_include_directories(flodl_bench_parts PUBLIC benchmarks/parts)
target_compile_definitions(flodl_bench_parts PRIVATE FLODL_SOURCE_DIR="${CMAKE_CURRENT_SOURCE_DIR}"
  BENCH_BUILD="${CMAKE_BUILD_TYPE}")
target_link_libraries(flodl_bench_parts PUBLIC flodl m ${CMAKE_DL_LIBS})
if(FLODL_CUPTI_INCLUDE)
  target_compile_definitions(flodl_bench_parts PRIVATE BENCH_CUPTI)
  target_include_directories(flodl_bench_parts SYSTEM PRIVATE ${FLODL_CUPTI_INCLUDE})
  if(FLODL_CUDA_INCLUDE) # cupti.h needs cuda.h, which needn't lie beside it
    target_include_directories(flodl_bench_parts SYSTEM PRIVATE ${FLODL_CUDA_INCLUDE})
  endif()
endif()

# A benchmark also measures libtorch itself, so that both sides stand in one program: <name>.c beside <name>_torch.cpp.
# Or they are processes of their own, and <name>_cxx.cpp is another program. That one includes torch/nn.h, which takes long
# to compile: it is built for bench_<name>, which is then both, but not for "all".
file(GLOB benchmarks CONFIGURE_DEPENDS benchmarks/*.c)
foreach(source ${benchmarks})
  get_filename_component(name ${source} NAME_WE)
  set(program bench_${name})
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/benchmarks/${name}_cxx.cpp)
    set(program bench_${name}_c)
    add_executable(bench_${name}_cxx EXCLUDE_FROM_ALL benchmarks/${name}_cxx.cpp)
    set_target_properties(bench_${name}_cxx PROPERTIES OUTPUT_NAME ${name}_cxx
      RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/benchmarks)
    target_compile_definitions(bench_${name}_cxx PRIVATE NDEBUG)
    target_link_libraries(bench_${name}_cxx PRIVATE flodl_bench_parts flodl_libtorch PkgConfig::JANSSON)
    add_custom_target(bench_${name})
    add_dependencies(bench_${name} ${program} bench_${name}_cxx)
  endif()
  flodl_add_program(${program} ${name} ${source} benchmarks)
  target_link_libraries(${program} PRIVATE flodl_bench_parts)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/benchmarks/${name}_torch.cpp)
    target_sources(${program} PRIVATE benchmarks/${name}_torch.cpp)
    set_source_files_properties(benchmarks/${name}_torch.cpp PROPERTIES COMPILE_DEFINITIONS NDEBUG)
    target_link_libraries(${program} PRIVATE flodl_libtorch)
  endif()
endforeach()
