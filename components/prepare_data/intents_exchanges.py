"""Intents about exchanges."""

from __future__ import annotations

from typing import Final

from components.prepare_data.phrasing import FollowUp, Intent

INTENTS: Final = (
    Intent(
        "trading-hours",
        asks=(
            "When can I trade in {exchange}?",
            "What are the trading hours of {exchange}?",
            "When is the {exchange} exchange open?",
            "How long is {exchange} open for trading?",
            "At what time does {exchange} open?",
            "Until when can I trade in {exchange}?",
            "Tell me the hours of the {exchange} exchange",
        ),
        held_out=(
            "When is {exchange} open for trading?",
            "What are the hours of the {exchange} exchange?",
            "At what time can I trade in {exchange}?",
        ),
        answer="{exchange} trades from {exchange_hours}.",
        subject="exchange",
    ),
    Intent(
        "trading-fee",
        asks=(
            "What does an order in {exchange} cost?",
            "How much is a trade in {exchange}?",
            "What is the trading fee of {exchange}?",
            "What do you charge for an order in {exchange}?",
            "How expensive is trading in {exchange}?",
            "Which fee do I pay for a trade in {exchange}?",
            "Tell me the cost of an order in {exchange}",
        ),
        held_out=(
            "How much does an order in {exchange} cost?",
            "What is the fee for a trade in {exchange}?",
            "What do you charge for trading in {exchange}?",
        ),
        answer="An order in {exchange} costs {exchange_fee} EUR.",
        subject="exchange",
    ),
    Intent(
        "settlement",
        asks=(
            "When are trades in {exchange} settled?",
            "How many days does settlement in {exchange} take?",
            "When do I get my money after a sale in {exchange}?",
            "What is the settlement time of {exchange}?",
            "How long is settlement in {exchange}?",
            "After how many days does {exchange} settle?",
            "Tell me when {exchange} trades settle",
        ),
        held_out=(
            "How long does settlement in {exchange} take?",
            "When do trades in {exchange} settle?",
            "After how many days are {exchange} trades settled?",
        ),
        answer="{exchange} settles after {exchange_settle} days.",
        subject="exchange",
    ),
)

FOLLOW_UPS: Final = (
    FollowUp(
        "trading-fee",
        "exchange",
        asks=("And what does an order cost there?", "How much is a trade there?", "What is the fee there?"),
        held_out=("And how much is an order there?", "What does a trade cost there?"),
    ),
    FollowUp(
        "settlement",
        "exchange",
        asks=("And when are trades settled there?", "How long is settlement?", "After how many days does it settle?"),
        held_out=("And how long is settlement there?", "When are trades settled?"),
    ),
)
