"""Bad command lines: the exit code, and one line that says what to do."""

import importlib.util
import shlex
import subprocess
import sys

import pytest

from bnn_tf.cli import app

# Wrong usage (exit code 2), found without TensorFlow: the line after `bnn-tf`, and a part of the message.
USAGE = [
    # commands
    ("trian", "there is no command 'trian'; did you mean 'train'?"),
    ("eval run", "did you mean 'evaluate'?"),
    ("test run", "did you mean 'evaluate'?"),
    ("infer run x.png", "did you mean 'predict'?"),
    ("quantize run", "did you mean 'convert'?"),
    ("quantise run", "did you mean 'convert'?"),
    ("detect run x.png", "did you mean 'predict'?"),
    ("classify run x.png", "did you mean 'predict'?"),
    ("info run", "did you mean 'summary'?"),
    ("ls", "did you mean 'runs'?"),
    ("diff a b", "did you mean 'compare'?"),
    ("fit", "did you mean 'train'?"),
    ("import x.pt", "did you mean 'import-torch'?"),
    ("wzzk", "there is no command 'wzzk'"),
    ("--nonsense", "there is no option --nonsense"),
    # options that are called otherwise elsewhere
    ("train --method recu --bacth-size 3", "did you mean --batch-size?"),
    ("train --method recu --batchsize 3", "did you mean --batch-size?"),
    ("train --method recu --learning_rate 3", "did you mean --learning-rate?"),
    ("train --network x", "did you mean --model?"),
    ("train --arch x", "did you mean --model?"),
    ("train --num-epochs 3", "did you mean --epochs?"),
    ("train --gpu 1", "did you mean --gpus?"),
    ("train --num-workers 1", "did you mean --workers?"),
    ("train --checkpoint x", "did you mean --resume?"),
    ("train --pretrained x", "did you mean --init-from?"),
    ("train --fp16", "did you mean --precision?"),
    ("train --xla", "did you mean --jit?"),
    ("train --method recu --out x", "did you mean --run-dir?"),
    ("train --method recu --output x", "did you mean --run-dir?"),
    ("train --method recu --output-dir x", "did you mean --run-dir?"),
    ("sweep --method recu --output x", "did you mean --sweep-dir?"),
    ("convert run --out x", "did you mean --output?"),
    ("train --method recu --patience 3", "there is no early stopping; --epochs says how long to train"),
    ("train --method mine", "there is no method called 'mine'; of the file mine.py, write mine:Swishy"),
    (
        "train --method recu --model mine",
        "there is no model called 'mine'; of the file mine.py, write mine:net",
    ),
    ("train --method recu --model resnet50", "did you mean 'bireal_net50'?"),
    ("export --model vgg_small", "choose none; write bnn-tf export vgg_small … for the network with random"),
    ("evaluate text.keras --model vgg_small", "import the module of a run's own method or network here"),
    ("export text.keras -o q.txt", "name a file that ends in .c, not q.txt"),
    ("weights text.keras -o w.txt", "name one that ends in .npz, not w.txt"),
    ("device-kit text.tflite -o kit", "write bnn-tf device-kit RUN --tflite text.tflite"),
    ("recipes --model vgg", "did you mean 'vgg_small'?"),
    ("recipes --dataset cifr10", "did you mean 'cifar10'?"),
    # settings that are written as options
    ("train --method recu --optimizer adam", "no option --optimizer; write --set optimizer=VALUE (see"),
    ("train --method recu --optimiser adam", "write --set optimizer=VALUE"),
    ("train --method recu --label-smoothing .1", "write --set label_smoothing=VALUE"),
    ("train --method recu --warmup 3", "write --set schedule.warmup=VALUE"),
    ("train --method recu --tau_min .9", "write --set method.tau_min=VALUE"),
    ("train --method recu --pad-values 1", "write --set model.pad_values=VALUE"),
    ("sweep --sweep-dir x --method recu --nesterov", "write --set nesterov=VALUE"),
    ("summary --model vgg_small --num-classes 10", "write --set model.num_classes=VALUE"),
    ("convert run --quantize", "did you mean --int8?"),
    ("summary --model vgg_small --imgsz 3", "did you mean --input-size?"),
    ("evaluate run --batch 3", "did you mean --batch-size?"),
    ("lint --model vgg_small --strikt", "did you mean --strict?"),
    # values
    ("train --method recu --batch-size", "requires an argument"),
    ("train --method recu --batch-size few", "'few' is not a valid integer"),
    ("train --method recu --batch-size 0", "0 is not in the range"),
    ("train --method recu --bs -4", "-4 is not in the range"),
    ("train --method recu --test-batch-size 0", "0 is not in the range"),
    ("train --method recu --lr nan", "it must be finite and above 0, not nan"),
    ("train --method recu --lr inf", "it must be finite and above 0, not inf"),
    ("train --method recu --lr 0", "it must be finite and above 0, not 0"),
    ("train --method recu --lr fast", "'fast' is not a number"),
    ("train --method recu --weight-decay -1", "it must be finite and at least 0, not -1"),
    ("train --method recu --clip-norm 0", "it must be finite and above 0, not 0"),
    ("train --method recu --grad-clip 1", "did you mean --clip-norm?"),
    ("train --method recu --gradient-clip 1", "did you mean --clip-norm?"),
    ("sweep --method recu --max-norm 1", "did you mean --clip-norm?"),
    ("train --method recu --weight-decay nan", "it must be finite and at least 0, not nan"),
    ("train --method recu --momentum -0.5", "it must be finite and at least 0, not -0.5"),
    ("train --method recu --momentum 1.5", "momentum"),
    ("train --method recu --seed -1", "-1 is not in the range"),
    ("train --method recu --seed 99999999999", "99999999999 is not in the range"),
    ("train --method recu --limit 0", "0 is not in the range"),
    ("train --method recu --workers 0", "0 is not in the range"),
    ("train --method recu --gpus -1", "-1 is not in the range"),
    ("train --method recu --print-every -1", "-1 is not in the range"),
    ("train --method recu --epochs two", "--epochs takes a whole number, or one for each phase"),
    ("train --method recu --epochs 1,2", "one for each phase (train)"),
    ("train --method recu --epochs 0", "positive number"),
    ("train --method recu --epochs 1000000000000", "epochs"),
    ("train --method subbit --bits 0", "0 is not in the range"),
    ("train --method subbit --bits 10", "10 is not in the range"),
    ("train --method bireal --bits 5", "there is no option of bireal called 'bits'"),
    ("train stray", "unexpected extra argument"),
    # names
    ("train", "name a --method"),
    ("train --dry-run --model resnet20", "did you mean 'cifar_resnet20'?"),
    ("train --method birael", "there is no method called 'birael'; did you mean 'bireal'?"),
    ("train --method snn", "did you mean 'subbit'?"),
    ("train --method recu --model mobilenet", "the nearest here is 'quicknet_small'"),
    ("train --method recu --model reactnet", "did you mean 'react_resnet18'?"),
    ("train --method recu --model resnet20", "did you mean 'cifar_resnet20'?"),
    ("train --method recu --model vgg", "did you mean 'vgg_small'?"),
    ("train --method recu --variant multi-step", "variant of recu's recipes"),
    ("train --method bireal --variant multi-step", "did you mean 'multistep'"),
    ("train --method recu --schedule cosin", "did you mean 'cosine'"),
    ("train --method recu --dataset cifer10", "there is no dataset 'cifer10'"),
    ("train --method recu --dataset imagenet", "Did you mean imagenet2012?"),
    ("train --method recu --dataset empty", "that is a folder; write --data-dir empty in place of --dataset"),
    ("train --method recu --dataset ./nope", "that looks like a folder; write --data-dir ./nope in place of"),
    (
        "train --method recu --data-dir tfds/cifar10",
        "is the dataset cifar10 of TensorFlow Datasets; write --dataset cifar10 --data-dir",
    ),
    ("evaluate text.keras --dataset ./empty --normalization none", "write --data-dir ./empty in place of"),
    ("train --method recu --init-from larq-zoo:Quicknet", "did you mean 'QuickNet'?"),
    ("train --method recu --init-from vgg_small", "vgg_small is neither a run nor a saved Keras model"),
    ("train --method recu --teacher text.tflite", "text.tflite is neither a run nor a saved Keras model"),
    ("train --method mine.py:Swishy", "'mine.py:Swishy' names a file; write mine:Swishy"),
    ("train --method ./methods/mine.py:Swishy", "write methods.mine:Swishy"),
    ("""train --method recu --set 'images.training=[{"name": "aug.py:Dark"}]'""", "write aug:Dark"),
    ("evaluate text.keras --import mine.py", "'mine.py' names a file; write mine,"),
    ("lint ./mine.py:net", "write mine:net"),
    ("train --method recu --set model=vgg_small", "--set does not choose the model; write --model vgg_small"),
    ("convert text.keras -o empty", "empty is a folder; name the file to write with -o"),
    ("device-kit text.keras -o kit --dataset digits --normalization unity", "did you mean 'unit'"),
    ("convert text.keras -o x.tflite --dataset cifer10", "Did you mean cifar10?"),
    ("convert text.keras -o x.tflite --normalization unity", "did you mean 'unit'"),
    ("benchmark text.keras --compare --dataset cifer10", "Did you mean cifar10?"),
    ("import-torch text.keras --model vgg_small -o imp --dataset cifer10", "Did you mean cifar10?"),
    ("data", "Missing command (see bnn-tf data --help)"),
    ("lint larq-zoo:Quicknet", "did you mean 'QuickNet'?"),
    ("convert larq-zoo:Quicknet", "did you mean 'QuickNet'?"),
    ("summary larq-zoo:QuickNet:big", "come :random and a size (:192), not 'big'"),
    ("train --method recu --until-phase trian", "did you mean 'train'"),
    ("train --method recu --from-phase trian", "did you mean 'train'"),
    ("train --method bireal --variant multistep --from-phase clip", "needs a run to start from: --init-from"),
    ("recipes --method rec", "did you mean 'recu'"),
    # settings
    ("train --method recu --set epochs", "--set takes KEY=VALUE, not 'epochs'"),
    ("train --method recu --set =3", "--set takes KEY=VALUE, not '=3'"),
    ("train --method recu --set bathc_size=3", "did you mean 'batch_size'"),
    ("train --method recu --set batch_size=-3", "batch_size must be a whole number at least 1, not -3"),
    ("train --method recu --set batch_size=2.5", "batch_size must be a whole number"),
    ("train --method recu --set batch_size=NaN", "batch_size must be a whole number"),
    (
        "train --method recu --set label_smoothing=1",
        "label_smoothing must be a number at least 0 and below 1",
    ),
    ("train --method recu --set method.tau_min=85", "tau_min must be a number"),
    ("train --method recu --set method.tau_min=NaN", "tau_min must be a number"),
    ("train --method recu --set method.tua_min=0.8", "did you mean 'tau_min'"),
    ("train --method ovsw --set method.delta=NaN", "delta must be a number"),
    ("train --method ovsw --set method.delta=-1", "delta must be a number"),
    ("train --method recu --set schedule.warmup=-1", "warmup must be"),
    ("train --method recu --set schedule.wramup=1", "did you mean 'schedule.warmup'"),
    # resuming
    ("train --resume run --lr 0.1", "continues a run as it was configured; leave out --learning-rate"),
    ("train --resume run --method recu --seed 3", "leave out --method, --seed"),
    ("sweep", "name a --sweep-dir"),
    ("sweep --sweep-dir x", "name a --method"),
    ("sweep --sweep-dir x --method recu --grid lr", "--grid takes KEY=A,B,…, not 'lr'"),
    ("sweep --sweep-dir x --method recu --grid lr=", "--grid takes KEY=A,B,…"),
    ("sweep --sweep-dir x --method recu --grid seed=1,2", "--seeds 1,2"),
    ("sweep --sweep-dir x --method recu --grid bs=1..9", "takes values, not a range"),
    ("sweep --sweep-dir x --method recu --grid batch_size=1,1", "batch_size=1 is the same as batch_size=1"),
    ("sweep --sweep-dir x --method recu --random 3", "--random draws from --search"),
    ("sweep --sweep-dir x --method recu --search lr=1..2", "--search needs --random"),
    ("sweep --sweep-dir x --method recu --random 2 --search lr=a..b", "with two numbers"),
    ("sweep --sweep-dir x --method recu --seeds one", "--seeds takes whole numbers"),
    ("sweep --sweep-dir x --method recu --seeds 1,1", "names a seed twice"),
    ("sweep --sweep-dir x --method recu --dataset cifer10", "Did you mean cifar10?"),
    ("sweep --show x --method recu", "--show takes a sweep as it was started; leave out --method"),
    # arguments
    ("evaluate", "Missing argument 'TARGET'"),
    ("convert", "Missing argument 'TARGET'"),
    ("predict", "Missing argument 'TARGET'"),
    ("predict text.keras", "Missing argument 'IMAGE…'"),
    ("report", "Missing argument 'RUN…'"),
    ("compare", "Missing argument 'RUN…'"),
    ("compare one", "name at least two runs"),
    ("benchmark", "Missing argument 'TARGET…'"),
    ("compress", "Missing argument 'SOURCE'"),
    ("expand x", "Missing option '-o'"),
    ("device-kit text.keras", "Missing option '-o'"),
    ("import-torch", "Missing argument 'FILE'"),
    ("import-torch x.pt", "Missing option '--model'"),
    ("completion", "Missing argument"),
    ("completion tcsh", "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ("lint", "name a run or saved model, or a --model"),
    ("lint text.keras --model vgg_small", "name a run or saved model, or a --model"),
    ("lint text.keras --method recu", "go with --model"),
    ("lint text.tflite", "not .tflite files"),
    ("lint --model vgg_smal", "did you mean 'vgg_small'"),
    ("summary", "name a run or saved model, or a --model"),
    ("summary --model vgg_small --set bits=5", "method.OPTION=VALUE or model.OPTION=VALUE"),
    ("summary --model vgg_small --set model.pad_value=1", "did you mean 'pad_values'"),
    ("summary --model vgg_small --input-size big", "no size such as"),
    ("summary --model vgg_small --input-size 0", "no size such as"),
    ("summary --model vgg_small --channels 2", "'2' is not one of '1', '3'"),
    ("summary --model vgg_small --bits 12", "12 is not in the range"),
    ("summary --model vgg_small --method recu --bits 5", "option of method recu called 'bits'"),
    ("convert text.keras", "name the file to write with -o"),
    ("convert text.keras -o nowhere/x.tflite", "there is no folder nowhere"),
    ("convert text.keras -o x.tflite --int8-input", "need --int8; leave out --int8-input"),
    ("convert text.keras -o x.tflite --int8 half", "'half' is not one of"),
    ("convert text.keras -o x.tflite --int8 --no-fold", "--int8 needs folding"),
    ("convert text.keras -o x.tflite --images 0", "0 is not in the range"),
    ("evaluate text.keras", "name a --dataset and a --normalization"),
    (
        "evaluate cifar_resnet20",
        "no trained weights; name a run or a saved model, or zoo:cifar_resnet20-ovsw or",
    ),
    ("predict vgg_small x.png", "no trained weights; name a run or a saved model"),
    ("predict net.c x.png", "net.c is an exported C program"),
    ("evaluate net.c", "net.c is an exported C program"),
    ("evaluate text.keras --dataset digits", "name a --dataset and a --normalization"),
    ("evaluate text.keras --dataset digits --normalization cifra", "did you mean 'cifar'"),
    ("evaluate text.keras --dataset cifer10 --normalization unit", "Did you mean cifar10?"),
    ("evaluate text.keras --method recu", "import the module of a run's own method or network here"),
    ("benchmark text.tflite --compare", "--compare needs a run or a saved Keras model"),
    ("benchmark text.tflite --threads many", "no list of numbers of threads"),
    ("benchmark text.tflite --threads 0", "no list of numbers of threads"),
    ("models --filter cheap", "--filter takes a condition"),
    ("models --filter weight=3", "there is no column called 'weight'"),
    ("models --filter parameters=few", "parameters is a number"),
    ("models --filter model<3", "model is text"),
    ("models --sort prameters", "did you mean 'parameters'"),
    ("runs --sort size", "'size' is not one of"),
    ("report broken -o report.md", "ends in .html"),
]

# Other errors (exit code 1), also without TensorFlow.
WRONG = [
    ("evaluate nothing", "there is no run and no model at nothing"),
    ("evaluate tex.keras", "did you mean text.keras?"),
    ("evaluate cifar_resnet20-ovsw", "at cifar_resnet20-ovsw; write zoo:cifar_resnet20-ovsw"),
    ("evaluate empty", "empty is neither a run directory (no config.json) nor a SavedModel"),
    ("evaluate text.keras --import no_such_module", "the module 'no_such_module' does not load"),
    ("evaluate text.keras --dataset mnist --data-dir no --normalization unit", "no does not exist"),
    ("train --method recu --init-from nowhere", "there is no run and no model at nowhere"),
    ("train --method recu --init-from tex.keras", "did you mean text.keras?"),
    ("train --method recu --teacher nowhere", "there is no run and no model at nowhere"),
    ("train --method recu --set teacher=nowhere", "there is no run and no model at nowhere"),
    ("train --method recu --dataset cifar10 --data-dir nowhere", "nowhere does not exist"),
    ("sweep --sweep-dir x --method recu --init-from nowhere", "there is no run and no model at nowhere"),
    ("compare nothing nowhere", "there is no run and no model at nothing"),
    ("convert runs/nope", "there is no run and no model at runs/nope"),
    ("predict nothing x.png", "there is no run and no model at nothing"),
    ("summary ~nosuch/x", "there is no run and no model at ~nosuch/x"),
    ("predict text.keras nothing.png", "there is no image nothing.png"),
    ("import-torch nothing.pth --model vgg_small -o imp", "there is no checkpoint nothing.pth"),
    ("lint vgg-smal", "there is no run and no model at vgg-smal; did you mean 'vgg_small'?"),
    ("train --recipe nothing.json", "the recipe in nothing.json cannot be read: No such file or directory"),
    ("export text.keras -o x.c --class-names nothing.txt", "nothing.txt cannot be read: No such file or"),
    ("lint densenet", "no model at densenet; the nearest here is 'quicknet_large'"),
    ("lint nothing", "there is no run and no model at nothing"),
    ("summary nothing.keras", "there is no run and no model at nothing.keras"),
    ("benchmark nothing.tflite", "there is no run and no model at nothing.tflite"),
    ("device-kit nothing -o kit", "there is no run and no model at nothing"),
    ("report nothing", "there is no run and no model at nothing"),
    ("report text.keras", "text.keras is no run directory"),
    ("runs nothing", "there is no folder nothing"),
    ("runs text.keras", "there is no folder text.keras"),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with things that are no models; it is the current one."""
    for name in ("text.keras", "text.tflite", "net.c"):
        (tmp_path / name).write_text("not a model")
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    (tmp_path / "tfds" / "cifar10" / "3.0.2").mkdir(parents=True)
    (tmp_path / "tfds" / "cifar10" / "3.0.2" / "dataset_info.json").write_text('{"name": "cifar10"}')
    code = "class Swishy(Method): ...\nclass Helper: ...\ndef net(): ...\n"
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "message", "code"), [(*case, 2) for case in USAGE] + [(*case, 1) for case in WRONG]
)
def test_one_line_with_the_right_code(place, capsys, line, message, code):
    before = sorted(place.rglob("*"))
    assert app.run(shlex.split(line)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bnn-tf: ")
    assert len(err.splitlines()) == 1
    assert message in err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    "line",
    [
        "convert text.keras -o x",
        "device-kit text.keras -o x --tflite text.tflite",
        "benchmark text.keras",
        "evaluate text.tflite --dataset digits --normalization none",
        "predict text.tflite x.png",
        "export text.tflite -o x.c",
    ],
)
def test_without_larq_compute_engine(place, capsys, monkeypatch, line):
    find = importlib.util.find_spec
    absent = "larq_compute_engine"
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == absent else find(name, *rest)
    )
    assert app.run(shlex.split(line)) == 1
    assert "pip install larq-compute-engine" in capsys.readouterr().err


SCRIPT = """
import shlex, sys
from bnn_tf.cli import app
for line in sys.stdin:
    code = app.run(shlex.split(line))
    assert code in (0, 1, 2), (line, code)
    assert "tensorflow" not in sys.modules, line
"""


def test_none_of_them_needs_tensorflow(place):
    answers = ["--help", "train --help", "models", "models --json", "recipes", "recipes --json", "--version"]
    answers += ["completion bash", "runs empty"]
    lines = "\n".join([*answers, *(line for line, _ in USAGE + WRONG)])
    process = subprocess.run([sys.executable, "-c", SCRIPT], input=lines, text=True, capture_output=True)
    assert process.returncode == 0, process.stderr.splitlines()[-1]
