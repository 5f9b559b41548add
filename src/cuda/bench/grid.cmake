# What the grid of GPU copies is, but its measuring: schedule, file, tables and plot need no CUDA and are tested anywhere.
tiercel_module(cuda_grid APART
  SOURCES
    bench/grid_budgets.cc
    bench/grid_file.cc
    bench/grid_plot.cc
    bench/grid_report.cc
    bench/grid_row.cc
    bench/grid_runner.cc
    bench/grid_schedule.cc
    bench/measured_cell.cc
    bench/pool_shape.cc
    bench/program_version.cc
  HEADERS
    bench/grid_budgets.h
    bench/grid_file.h
    bench/grid_plot.h
    bench/grid_report.h
    bench/grid_row.h
    bench/grid_runner.h
    bench/grid_schedule.h
    bench/measured_cell.h
    bench/pool_shape.h
    bench/program_version.h
  DEPS transfer)
set_source_files_properties(bench/program_version.cc PROPERTIES
  COMPILE_DEFINITIONS TIERCEL_VERSION="${PROJECT_VERSION}")

tiercel_test(cuda_grid_test
  SOURCES
    bench/grid_file_test.cc
    bench/grid_report_test.cc
    bench/grid_schedule_test.cc
  DEPS cuda_grid)
