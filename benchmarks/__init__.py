"""What the library costs, beside what its parts and its peers cost on the same machine.

`python -m benchmarks NAME` prints a table and, with `--json FILE`, writes it down for programs.
Figures are CPU time, since that is stable on machines that others use too; compare the columns of
a table, not tables of two machines. Nothing is estimated: what is not there is called absent.
"""
