"""sympy is imported when onnx_ir uses it, not when onnx_ir is imported."""

import subprocess
import sys


def run(program: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_onnx_ir_does_not_load_sympy():
    assert run("import dlaconv, onnx_ir, sys; print('sympy.core' in sys.modules)") == "False"


def test_arithmetic_on_symbolic_shapes_still_works():
    program = "import dlaconv, onnx_ir; print(onnx_ir.SymbolicDim('2*N').evaluate({'N': 4}))"
    assert run(program) == "8"


def test_sympy_can_be_imported_before_and_after():
    program = "import dlaconv{}; import sympy; print(sympy.Integer(2) + 3)"
    assert run(program.format("")) == "5"
    assert run(program.format(", onnx_ir")) == "5"


def test_other_imports_of_sympy_are_ordinary():
    assert run("import dlaconv, sympy, sys; print('sympy.core' in sys.modules)") == "True"
