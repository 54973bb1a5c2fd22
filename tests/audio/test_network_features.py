"""HuBERT, wav2vec2 and Whisper through windows, on checkpoints of a few thousand random weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarfit.audio import SAMPLE_RATE_HZ, speech_features
from avatarfit.audio.log_mel import hop_count
from avatarfit.audio.network_features import NetworkEncoder, load_encoder, require_live, usual_windows
from avatarfit.audio.pretrained import load_pretrained
from avatarfit.audio.sound_windows import LIVE, WindowedRows, Windows
from avatarfit.contracts import AudioClip, InputError

transformers = pytest.importorskip("transformers")
SMALL = Windows(1.0, 2.0, 0.6, 0.2)


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tone = np.sin(2 * np.pi * (180 + 60 * np.sin(2 * np.pi * 0.7 * t)) * t) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * t))
    return (0.2 * tone + 0.02 * random.standard_normal(len(t))).astype(np.float32)


def save(folder: Path, kind: str) -> Path:
    """A checkpoint of `kind` with random weights, as transformers writes it."""
    torch.manual_seed(0)
    if kind == "whisper":
        config = transformers.WhisperConfig(
            d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=16, decoder_layers=1,
            decoder_attention_heads=2, decoder_ffn_dim=16, num_mel_bins=20, max_source_positions=200, vocab_size=20,
            max_target_positions=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )  # fmt: skip
        model = transformers.WhisperModel(config)
        told = {"feature_extractor_type": "WhisperFeatureExtractor", "sampling_rate": 16000}
    else:
        made = {"hubert": transformers.HubertConfig, "wav2vec2": transformers.Wav2Vec2Config}[kind]
        config = made(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=20, feat_extract_norm="layer",
        )  # fmt: skip
        model = {"hubert": transformers.HubertModel, "wav2vec2": transformers.Wav2Vec2Model}[kind](config)
        told = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000, "do_normalize": True}
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save(tmp_path_factory.mktemp(kind), kind) for kind in ("hubert", "wav2vec2", "whisper")}


def all_rows(stream: WindowedRows, samples: np.ndarray, piece: int | None = None) -> np.ndarray:
    size = piece or max(len(samples), 1)
    rows = [stream.push(samples[i : i + size]) for i in range(0, len(samples), size)]
    return np.concatenate([*rows, stream.finish()])


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "whisper"])
def test_features_stand_beside_level_and_pitch_one_row_a_hop(kind: str, checkpoints: dict[str, Path]) -> None:
    encoder = load_encoder(checkpoints[kind])
    features = speech_features(AudioClip(babble(5.3), SAMPLE_RATE_HZ, 0.5), encoder)
    assert features.values.shape == (530, 16 + 4)
    assert np.isfinite(features.values).all()
    assert features.name.startswith(f"{kind}-layer2-")
    columns = features.values[:, :16]
    # Levelled frames of the network, read between two of them: mean 0 and about variance 1 in every row.
    np.testing.assert_allclose(columns.mean(1), 0, atol=1e-4)
    assert 0.4 < np.square(columns).mean() <= 1.0001


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "whisper"])
@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.03, 0.5, 3.2, 6.01])
def test_every_length_gives_a_row_a_hop_however_it_is_cut(
    kind: str, seconds: float, checkpoints: dict[str, Path]
) -> None:
    encoder = load_encoder(checkpoints[kind], windows=SMALL)
    samples = babble(seconds)
    whole = all_rows(encoder.stream(), samples)
    assert whole.shape == (hop_count(len(samples)), 16)
    np.testing.assert_allclose(all_rows(encoder.stream(), samples, 1234), whole, atol=1e-5)


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
def test_windows_give_what_the_whole_gives(kind: str, checkpoints: dict[str, Path]) -> None:
    samples = babble(20)
    whole = all_rows(load_encoder(checkpoints[kind], windows=Windows(0, 60, 1, 0)).stream(), samples)
    cut = all_rows(load_encoder(checkpoints[kind], windows=SMALL).stream(), samples)
    error = np.sqrt(np.square(cut - whole).mean(1))[50:-50]
    assert error.max() < 0.25
    assert error.mean() < 0.1
    # Where windows meet (every 2 s, fading over 0.2 s) the rows change no faster than elsewhere.
    step = np.abs(np.diff(cut, axis=0)).max(1)
    near = np.abs((np.arange(len(step)) % 200 + 100) % 200 - 100) <= 25
    near[:100] = near[-100:] = False
    assert step[near].max() <= 1.2 * step[100:-100][~near[100:-100]].max()


def test_rows_stand_where_their_sound_is(checkpoints: dict[str, Path]) -> None:
    """A burst in silence changes the network's own frames around it most; rows of 10 ms are centred there."""
    samples = 1e-3 * babble(6)
    burst = samples.copy()
    burst[3 * SAMPLE_RATE_HZ - 80 : 3 * SAMPLE_RATE_HZ + 80] += 0.3
    network = load_pretrained(checkpoints["hubert"], 1)
    convolved = [network.model.feature_extractor(torch.from_numpy(x)[None])[0].T.numpy() for x in (samples, burst)]
    windows = Windows(0, 60, 1, 0)
    rows = [all_rows(WindowedRows(lambda _, f=f: f, 8, network.frame_centre, windows), samples) for f in convolved]
    change = np.abs(rows[1] - rows[0]).sum(1)
    centre = float((change * np.arange(len(change))).sum() / change.sum())
    assert abs(centre - 300) < 1.0


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
def test_a_row_hears_no_further_ahead_than_is_said(kind: str, checkpoints: dict[str, Path]) -> None:
    encoder = load_encoder(checkpoints[kind], windows=SMALL)
    assert encoder.look_ahead_seconds == pytest.approx(2.8)
    samples = babble(9)
    other = samples.copy()
    other[5 * SAMPLE_RATE_HZ :] = babble(4, seed=5)
    before = all_rows(encoder.stream(), samples)
    after = all_rows(encoder.stream(), other)
    same = round((5 - encoder.look_ahead_seconds) * 100)
    np.testing.assert_array_equal(before[:same], after[:same])
    # And it is ready as soon as that: nothing waits longer.
    stream = encoder.stream()
    assert len(stream.push(samples[: 5 * SAMPLE_RATE_HZ])) >= same


def test_live_windows_hear_a_tenth_of_a_second_ahead(checkpoints: dict[str, Path]) -> None:
    live = load_encoder(checkpoints["hubert"], windows=LIVE)
    require_live(live)
    rows = all_rows(live.stream(), babble(0.6), 320)
    assert rows.shape == (60, 16)
    with pytest.raises(InputError, match=r"hear 9200 ms ahead; wanted at most 120 ms for a live voice"):
        require_live(load_encoder(checkpoints["hubert"]))


def test_the_name_tells_weights_layer_and_windows_apart(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    name = load_encoder(checkpoints["hubert"]).name
    assert load_encoder(checkpoints["hubert"]).name == name
    assert load_encoder(checkpoints["hubert"], layer=1).name != name
    assert load_encoder(checkpoints["hubert"], windows=LIVE).name != name
    model = transformers.HubertModel.from_pretrained(checkpoints["hubert"])
    with torch.no_grad():
        model.encoder.layers[0].final_layer_norm.bias[0] += 1e-3
    model.save_pretrained(tmp_path)
    assert load_encoder(tmp_path).name != name


def test_frames_are_computed_once_for_the_same_sound_and_network(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = babble(7)
    plain = all_rows(load_encoder(checkpoints["hubert"], windows=SMALL).stream(), samples)
    cache = tmp_path / "made" / "here"
    encoder = load_encoder(checkpoints["hubert"], windows=SMALL, cache=cache)
    np.testing.assert_array_equal(all_rows(encoder.stream(), samples), plain)
    files = sorted(cache.iterdir())
    assert len(files) == 4
    assert all(file.suffix == ".safetensors" for file in files)
    counted = []
    frames = encoder._network.frames
    network = type("Counting", (), {"frames": lambda _, x: counted.append(len(x)) or frames(x)})()
    for name in ("kind", "layer", "weights_hash", "column_count", "frame_centre", "window_samples"):
        setattr(network, name, getattr(encoder._network, name))
    again = NetworkEncoder(network, SMALL, cache)
    np.testing.assert_array_equal(all_rows(again.stream(), samples), plain)
    assert not counted
    files[0].write_bytes(b"half")
    np.testing.assert_array_equal(all_rows(again.stream(), samples), plain)
    assert len(counted) == 1
    all_rows(again.stream(), babble(7, seed=1))
    assert len(counted) == 5
    assert len(list(cache.iterdir())) == 8


def test_whisper_hears_its_own_length_at_once(checkpoints: dict[str, Path]) -> None:
    network = load_pretrained(checkpoints["whisper"])
    assert network.window_samples == 4 * SAMPLE_RATE_HZ
    assert usual_windows(network).length_seconds == pytest.approx(4.0)
    with pytest.raises(ValueError, match=r"at most 4\.0 s, which is all that this network hears at once"):
        NetworkEncoder(network, Windows(2, 4, 1, 0.2))


def test_sound_at_another_rate_is_refused(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="44100 Hz; wanted 16000 Hz, resample first"):
        speech_features(AudioClip(babble(1), 44100), load_encoder(checkpoints["hubert"]))


def edited(folder: Path, target: Path, name: str, **changes: object) -> Path:
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    told = json.loads((target / name).read_text())
    (target / name).write_text(json.dumps(told | changes))
    return target


def test_a_checkpoint_for_another_sample_rate_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = edited(checkpoints["hubert"], tmp_path, "preprocessor_config.json", sampling_rate=8000)
    with pytest.raises(InputError, match=r"takes sound at 8000 Hz; wanted 16000 Hz"):
        load_encoder(folder)


def test_another_network_is_refused(tmp_path: Path) -> None:
    transformers.BertConfig(hidden_size=8, num_attention_heads=1).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"is a network of type bert; wanted a HuBERT, wav2vec2 or Whisper"):
        load_encoder(tmp_path)


def test_weights_that_are_missing_are_not_made_up(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = edited(checkpoints["hubert"], tmp_path, "config.json", num_hidden_layers=3)
    with pytest.raises(InputError, match=r"lacks \d+ of its weights, encoder\.layers\.2"):
        load_encoder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no weights that can be read"):
        load_encoder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"is no speech network in this folder"):
        load_encoder(folder)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    for source in (tmp_path / "none", str(tmp_path / "none"), "./none"):
        with pytest.raises(InputError, match=r"There is no folder .*none; wanted a HuBERT"):
            load_encoder(source)


def test_a_name_while_offline_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"no speech network among what was fetched before") as stop:
        load_encoder("somebody/hubert-that-is-not-here")
    assert "\n" not in str(stop.value)


def test_a_layer_that_is_not_there_is_refused(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"layer 3 .* was asked for; wanted 1 to 2"):
        load_encoder(checkpoints["hubert"], layer=3)


def test_without_transformers_it_is_said(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"transformers is not installed.*pip install 'avatarfit\[speech\]'"):
        load_encoder(checkpoints["hubert"])


def test_windows_are_whole_frames() -> None:
    with pytest.raises(ValueError, match=r"step_seconds came as 0\.05; wanted a multiple of 0\.02 s"):
        Windows(1, 0.05, 0.1, 0)
    with pytest.raises(ValueError, match="no more than before, after and half a step"):
        Windows(1, 2, 0.1, 0.2)
