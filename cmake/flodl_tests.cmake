set(lsan_options LSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/tests/lsan.supp:print_suppressions=0)

# One test program a subject: tests/<layer>/test_<subject>.c. Each gets cmocka and the library.
pkg_check_modules(CMOCKA IMPORTED_TARGET cmocka)
if(NOT CMOCKA_FOUND)
  message(STATUS "cmocka is missing: no tests are built")
  return()
endif()
file(GLOB test_sources CONFIGURE_DEPENDS tests/*/test_*.c tests/*/test_*.cpp)
foreach(source ${test_sources})
  # Some use, or test, what the benchmarks share.
  file(STRINGS ${source} on_parts REGEX "#include \"(gpu_trace|side).h\"" LIMIT_COUNT 1)
  if(on_parts AND NOT TARGET flodl_bench_parts)
    continue()
  endif()
  get_filename_component(layer ${source} DIRECTORY)
  get_filename_component(layer ${layer} NAME)
  get_filename_component(subject ${source} NAME_WE)
  string(REGEX REPLACE "^test_" "" subject ${subject})
  set(target test_${layer}_${subject})
  add_executable(${target} ${source})
  # A test of what a layer shares inside has the library's objects in itself: the shared library hides them.
  file(STRINGS ${source} on_inside REGEX "#include \".*_private.h\"" LIMIT_COUNT 1)
  if(on_inside)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:flodl_objects> $<TARGET_OBJECTS:flodl_base>)
    set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
    target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/include ${CMAKE_CURRENT_BINARY_DIR}/include)
    target_link_libraries(${target} PRIVATE flodl_libtorch ${optional_libraries})
    add_dependencies(${target} flodl_where)
  else()
    target_link_libraries(${target} PRIVATE flodl)
  endif()
  target_link_libraries(${target} PRIVATE PkgConfig::CMOCKA PkgConfig::JANSSON ZLIB::ZLIB Threads::Threads m)
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/tests)
  if(on_parts)
    target_link_libraries(${target} PRIVATE flodl_bench_parts)
  endif()
  target_compile_definitions(${target} PRIVATE FLODL_SOURCE_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
  add_test(NAME ${layer}.${subject} COMMAND ${target})
  set_tests_properties(${layer}.${subject} PROPERTIES LABELS ${layer} TIMEOUT 300
    ENVIRONMENT "OMP_NUM_THREADS=1;ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=2048;TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/tests/tsan.supp;${lsan_options}")
  # A test that asks for its device runs on the GPU as well, with float32 products in float32.
  file(STRINGS ${source} on_device REGEX "on_test_device\\(\\)" LIMIT_COUNT 1)
  if(on_device AND libtorch_links_cuda)
    add_test(NAME ${layer}.${subject}.cuda COMMAND ${target})
    set_tests_properties(${layer}.${subject}.cuda PROPERTIES LABELS gpu TIMEOUT 600 SKIP_RETURN_CODE 77
      RESOURCE_LOCK gpu ENVIRONMENT "FLODL_TEST_DEVICE=cuda;NVIDIA_TF32_OVERRIDE=0;CUBLAS_WORKSPACE_CONFIG=:4096:8")
  endif()
endforeach()

# What takes longer than everyday tests may: ctest -C long -L long.
add_test(NAME train.ckpt_killed.long CONFIGURATIONS long COMMAND test_train_ckpt_killed)
set_tests_properties(train.ckpt_killed.long PROPERTIES LABELS long TIMEOUT 600 ENVIRONMENT "OMP_NUM_THREADS=1;FLODL_KILLS=1000")

# Each public function's bad calls are written from the headers.
set(bad_calls ${CMAKE_CURRENT_BINARY_DIR}/tests/bad_calls.inc)
file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/tests)
add_custom_command(OUTPUT ${bad_calls}
  COMMAND awk -f ${CMAKE_CURRENT_SOURCE_DIR}/tests/bad_calls.awk ${public_headers} > ${bad_calls}
  DEPENDS ${public_headers} tests/bad_calls.awk VERBATIM)
target_sources(test_tensor_bad_calls PRIVATE ${bad_calls})
target_include_directories(test_tensor_bad_calls PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/tests)

# The promises of a layer (tests/<layer>/promises.txt), each by itself: ctest -C promises -R 'promise[.]tensor[.]042' runs the tests
# that keep it, and no others. Without -C they aren't there: the programs run all the same.
file(GLOB lists CONFIGURE_DEPENDS tests/*/promises.txt)
foreach(list ${lists})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${list})
  get_filename_component(layer ${list} DIRECTORY)
  get_filename_component(layer ${layer} NAME)
  file(READ ${list} text)
  string(REGEX MATCHALL "\n *[0-9]+ +[a-z0-9_./,*]+" promises "${text}")
  foreach(promise ${promises})
    string(REGEX MATCH "[0-9]+" number ${promise})
    string(REGEX MATCH "...$" number 00${number})
    string(REGEX MATCH "[a-z].*" tests ${promise})
    string(REPLACE "," ";" tests ${tests})
    foreach(test ${tests})
      if(NOT test MATCHES "^([a-z]+)[.]([a-z0-9_]+)/(.*)$")
        continue() # the test `promises` says so
      endif()
      set(program ${CMAKE_MATCH_1}.${CMAKE_MATCH_2})
      set(target test_${CMAKE_MATCH_1}_${CMAKE_MATCH_2})
      set(only ${CMAKE_MATCH_3})
      string(REPLACE "_*" "" name ${only})
      string(REPLACE "*" "all" name ${name})
      foreach(device "" .cuda)
        if(TARGET ${target} AND TEST ${program}${device})
          get_test_property(${program}${device} ENVIRONMENT environment)
          set(promise promise.${layer}.${number}.${name}${device})
          if(TEST ${promise}) # a test of that name in two programs
            set(promise promise.${layer}.${number}.${CMAKE_MATCH_2}.${name}${device})
          endif()
          add_test(NAME ${promise} CONFIGURATIONS promises COMMAND ${target})
          set_tests_properties(${promise} PROPERTIES LABELS promises TIMEOUT 600 SKIP_RETURN_CODE 77
            ENVIRONMENT "FLODL_TEST=${only};${environment}")
        endif()
      endforeach()
    endforeach()
  endforeach()
endforeach()

# The examples check themselves: each runs as example.<name>, but for those whose data the repository doesn't have.
set(examples_without_data mnist char_model)
if(FLODL_EXAMPLES)
  foreach(source ${examples})
    get_filename_component(name ${source} NAME_WE)
    if(name IN_LIST examples_without_data)
      continue()
    endif()
    add_test(NAME example.${name} COMMAND ${name})
    set_tests_properties(example.${name} PROPERTIES LABELS examples TIMEOUT 300
      ENVIRONMENT "OMP_NUM_THREADS=1;${lsan_options}")
  endforeach()
  # Seconds of training show whether the models learn; without the text the program says what it lacks.
  foreach(model gpt lstm)
    add_test(NAME example.char_model.${model} COMMAND char_model --model ${model} --layers 2 --heads 2 --width 64
      --context 32 --batch 16 --steps 200 --every 100 --lr 5e-3 --sample 50 --bar 2.6)
    set_tests_properties(example.char_model.${model} PROPERTIES LABELS examples TIMEOUT 300
      ENVIRONMENT OMP_NUM_THREADS=1 SKIP_REGULAR_EXPRESSION "FLODL_DATA in the environment")
  endforeach()
endif()

# Tests of what surrounds the library: tests/<subject>/run.sh SOURCE BUILD. With sanitizers they would show nothing new.
if(NOT FLODL_SANITIZE)
  file(GLOB scripts CONFIGURE_DEPENDS tests/*/run.sh)
  foreach(script ${scripts})
    get_filename_component(subject ${script} DIRECTORY)
    get_filename_component(subject ${subject} NAME)
    add_test(NAME ${subject} COMMAND sh ${script} ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_CURRENT_BINARY_DIR})
    set_tests_properties(${subject} PROPERTIES LABELS scripts TIMEOUT 300)
  endforeach()
endif()
