"""The third stage trains the language model on encoded query targets instead of image features.

It needs no images, so it runs in parallel with the first two stages. The codebook encodes the targets, and noise is
added. Samples are single questions in English at first, then single questions in every language, then also dialogues.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.model import embeddings
from training.model.architecture import PAD, parameter_groups
from training.model.codebook import TargetCodebook
from training.model.generation import generate_from_features
from training.model.question_targets import QuestionHead
from training.model.targets import IGNORE_INDEX
from training.model.vocabulary import word_meanings
from training.recipe import Recipe
from training.scenes.mixture import sample_scene
from training.stages import checkpoints
from training.stages.batches import (
    Batch,
    TextResources,
    scene_sample,
)
from training.stages.loop import Stage, TrainingContext, train
from training.stages.reports import load_reports
from training.stages.text_batches import TextBatches, sample_query_targets
from training.stages.vision_encoder import new_modules, saved_modules
from training.tasks.samples import SampleKind

NAME = "language_model"
NOISE_STD = 0.5
"""The standard deviation of the noise on encoded query targets."""

EMBEDDING_SCALE = 1.0
"""The embeddings' learning rate is that of the stage, multiplied by this."""

EVALUATION_SAMPLES = 256


def train_language_model(context: TrainingContext, *, tokenizer: Any) -> None:
    """Run or resume the stage."""
    recipe = context.recipe
    model, heads = new_modules(context, vocabulary=len(tokenizer))
    if not context.initial_model:
        embeddings.initialize_embeddings(model, tokenizer, word_meanings(context.sources), heads.codebook)
    question_head = QuestionHead(recipe.sizes.text_width).to(context.device)
    text = TextResources(tokenizer, context.lexicons())
    evaluation = LanguageEvaluation(recipe, text)
    query_targets = sample_query_targets(evaluation.scenes, random.Random(f"exam-reports/{recipe.seed}"))

    reports = load_reports(context, model) if context.initial_model else None

    def features(batch: Batch) -> Tensor:
        encoded = noisy_features(heads.codebook, batch)
        return encoded if reports is None else reports.replace(encoded, batch["reports"])

    evaluation_batch = {"query_targets": query_targets.to(context.device)}

    train(
        Stage(
            name=NAME,
            schedule=recipe.language_model,
            modules={"model": model, "grasp": question_head},
            parameter_groups=[*language_model_groups(model), *parameter_groups(question_head)],
            batches=TextBatches(recipe, text, len(reports.features), reports.similar)
            if reports
            else TextBatches(recipe, text),
            loss=lambda batch: language_model_loss(model, question_head, features(batch), batch),
            evaluate=lambda: evaluation(model, noisy_features(heads.codebook, evaluation_batch)),
        ),
        context,
    )


def load_question_head(context: TrainingContext) -> QuestionHead:
    """The question head from this stage's checkpoint, or a new one if a run from an initial model has none."""
    question_head = QuestionHead(context.recipe.sizes.text_width).to(context.device)
    if context.initial_model and not checkpoints.load_checkpoint(context.checkpoint_path(NAME)):
        return question_head
    question_head.load_state_dict(saved_modules(context, NAME)["grasp"])
    return question_head


def noisy_features(codebook: TargetCodebook, batch: Batch) -> Tensor:
    """The encoded query targets plus Gaussian noise, (N, queries, text width), which replace image features.

    If the batch has doubts, each is the weight of the codes of similar kinds.
    """
    vectors = codebook.encode(batch["query_targets"], batch.get("photographs"))
    if "doubts" in batch:
        others = codebook.encode(batch["doubtful_targets"], batch["photographs"])
        vectors = torch.lerp(vectors, others, batch["doubts"][:, None, None])
    return vectors + NOISE_STD * torch.randn_like(vectors)


def language_model_loss(model: Any, question_head: QuestionHead, features: Tensor, batch: Batch) -> Tensor:
    """The cross entropy of the labels after the image features and the prompt, plus the question head's loss."""
    prompt = model.language_model.get_input_embeddings()(batch["prompt"])
    mask = torch.cat([torch.ones(features.shape[:2], dtype=torch.long, device=features.device), batch["mask"]], dim=1)
    inputs = torch.cat([features.to(prompt.dtype), prompt], dim=1)
    language = model.language_model
    encoded = language.encoder(inputs_embeds=inputs, attention_mask=mask, output_hidden_states=True)
    states = encoded.last_hidden_state
    labels, is_label = batch["labels"], batch["labels"] != IGNORE_INDEX
    decoder_input = torch.cat([torch.full_like(labels[:, :1], PAD), labels[:, :-1]], dim=1).clamp(min=PAD)
    outputs = language.decoder(input_ids=decoder_input, encoder_hidden_states=states, encoder_attention_mask=mask)
    # Logits for labels only, since the vocabulary is large and most of a batch of answers is padding.
    logits = language.lm_head(outputs.last_hidden_state[is_label])
    cross_entropy = nn.functional.cross_entropy(logits.float(), labels[is_label])
    auxiliary_loss = question_head.loss(states, mask, batch["question_targets"])
    # The layer before the last marks the objects as well, so that the last one can count them.
    early_states = language.encoder.final_layer_norm(encoded.hidden_states[-2])
    for object_states in (states, early_states):
        auxiliary_loss = auxiliary_loss + question_head.object_loss(object_states, batch["object_targets"])
    return cross_entropy + auxiliary_loss


def language_model_groups(model: Any) -> list[dict[str, Any]]:
    """Optimizer groups of the language model's parameters, with a separate group for the embeddings."""
    weight = model.language_model.get_input_embeddings().weight
    groups = [
        {**group, "params": [one for one in group["params"] if one is not weight]}
        for group in parameter_groups(model.language_model)
    ]
    return [*groups, {"params": [weight], "scale": EMBEDDING_SCALE, "weight_decay": 0.0}]


class LanguageEvaluation:
    """A fixed set of samples of held-out scenes, scored by exact match."""

    def __init__(self, recipe: Recipe, text: TextResources) -> None:
        size = min(EVALUATION_SAMPLES, recipe.evaluation_scenes)
        rng = random.Random(f"exam-words/{recipe.seed}")
        self.scenes = [sample_scene(recipe.seed, i, split="exam") for i in range(size)]
        self.kinds = [("English", "any", "dialogue")[i % 3] for i in range(size)]
        self.samples = []
        for i, kind in enumerate(self.kinds):
            sample_kind: SampleKind = "dialogue" if kind == "dialogue" else "any"
            codes = ("en",) if kind == "English" else tuple(text.lexicons)
            self.samples.append(
                scene_sample(self.scenes, i, rng, kind=sample_kind, lexicons=text.lexicons, codes=codes)
            )
        self.tokenizer = text.tokenizer

    def __call__(self, model: Any, features: Tensor) -> Mapping[str, float]:
        """The shares of exact answers in English, to single questions and in dialogues, given the image features."""
        model.eval()
        answers = generate_from_features(model, self.tokenizer, features, [sample.prompt for sample in self.samples])
        model.train()
        correct = [text == sample.answer for text, sample in zip(answers, self.samples, strict=True)]
        hits = [kind for kind, is_correct in zip(self.kinds, correct, strict=True) if is_correct]
        names = {"English": "exact in English", "any": "exact", "dialogue": "exact in dialogues"}
        return {name: hits.count(kind) / max(1, self.kinds.count(kind)) for kind, name in names.items()}
