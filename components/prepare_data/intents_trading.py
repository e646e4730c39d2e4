"""Intents about orders and shares."""

from __future__ import annotations

from typing import Final

from components.prepare_data.phrasing import FollowUp, Intent

INTENTS: Final = (
    Intent(
        "order-status",
        asks=(
            "What is the status of order {order}?",
            "Was order {order} executed?",
            "Where do I see order {order}?",
            "Tell me the status of my order {order}",
            "Is order {order} done?",
            "What happened to my order {order}?",
            "Has order {order} been executed yet?",
        ),
        held_out=(
            "What is the status of my order {order}?",
            "Has my order {order} been done?",
            "What happened to order {order}?",
        ),
        answer="See order {order} under Orders, Status.",
        subject="order",
    ),
    Intent(
        "order-cancel",
        asks=(
            "Cancel order {order}",
            "I want to cancel my order {order}",
            "How do I cancel order {order}?",
            "Please stop order {order}",
            "I do not want order {order} any more",
            "Can I withdraw order {order}?",
            "Please delete my order {order}",
        ),
        held_out=(
            "Please cancel my order {order}",
            "How do I withdraw order {order}?",
            "I want to stop my order {order}",
        ),
        answer="Cancel order {order} under Orders, Cancel.",
        subject="order",
    ),
    Intent(
        "order-price",
        asks=(
            "Change the price of order {order} to {price} EUR",
            "Set order {order} to {price} EUR",
            "I want {price} EUR as the new price of order {order}",
            "How do I change order {order} to {price} EUR?",
            "Can order {order} have a price of {price} EUR?",
            "Move order {order} to {price} EUR",
            "Please correct the price of order {order} to {price} EUR",
        ),
        held_out=(
            "Please change order {order} to {price} EUR",
            "Set the price of order {order} to {price} EUR",
            "How do I move my order {order} to {price} EUR?",
        ),
        answer="Change order {order} to {price} EUR under Orders, Edit.",
        subject="order",
    ),
    Intent(
        "buy-shares",
        asks=(
            "I want to buy {shares} shares of {ticker}",
            "Buy {shares} {ticker}",
            "How do I buy {shares} {ticker} shares?",
            "Please buy {shares} shares of {ticker} for me",
            "Get me {shares} shares of {ticker}",
            "Where can I buy {shares} {ticker}?",
            "I would like to buy {shares} {ticker} shares",
        ),
        held_out=(
            "How can I buy {shares} shares of {ticker}?",
            "I would like to get {shares} shares of {ticker}",
            "Please buy {shares} {ticker}",
        ),
        answer="Buy {shares} {ticker} under Trade, Buy.",
        subject="ticker",
    ),
    Intent(
        "sell-shares",
        asks=(
            "I want to sell {shares} shares of {ticker}",
            "Sell {shares} {ticker}",
            "How do I sell {shares} {ticker} shares?",
            "Please sell {shares} shares of {ticker} for me",
            "Where can I sell {shares} {ticker}?",
            "I would like to sell {shares} {ticker} shares",
            "I need to sell {shares} shares of {ticker} today",
        ),
        held_out=(
            "How can I sell {shares} shares of {ticker}?",
            "I need to sell {shares} {ticker}",
            "Please sell {shares} {ticker} today",
        ),
        answer="Sell {shares} {ticker} under Trade, Sell.",
        subject="ticker",
    ),
    Intent(
        "price-alert",
        asks=(
            "Tell me when {ticker} reaches {price} EUR",
            "Set a price alert for {ticker} at {price} EUR",
            "I want an alert when {ticker} is at {price} EUR",
            "Send me a message if {ticker} hits {price} EUR",
            "How do I set an alert on {ticker} at {price} EUR?",
            "Can you tell me if {ticker} reaches {price} EUR?",
            "I need a price alert on {ticker} for {price} EUR",
        ),
        held_out=(
            "I want a price alert for {ticker} at {price} EUR",
            "Send me an alert when {ticker} reaches {price} EUR",
            "Tell me if {ticker} hits {price} EUR",
        ),
        answer="Alert set: {ticker} at {price} EUR.",
        subject="ticker",
    ),
    Intent(
        "stop-loss",
        asks=(
            "Set a stop loss on {ticker} at {price} EUR",
            "I want a stop loss for {ticker} at {price} EUR",
            "Protect my {ticker} shares below {price} EUR",
            "How do I place a stop loss at {price} EUR on {ticker}?",
            "Limit my losses on {ticker} at {price} EUR",
            "Place a stop at {price} EUR for {ticker}",
            "Can I protect {ticker} with a stop at {price} EUR?",
        ),
        held_out=(
            "How do I set a stop loss for {ticker} at {price} EUR?",
            "Place a stop loss on {ticker} at {price} EUR",
            "I want to protect my {ticker} at {price} EUR",
        ),
        answer="Stop loss: {ticker} at {price} EUR under Trade, Stop.",
        subject="ticker",
    ),
    Intent(
        "dividend",
        asks=(
            "When does {ticker} pay its dividend?",
            "In which month is the {ticker} dividend?",
            "When do I get the dividend of {ticker}?",
            "Does {ticker} pay a dividend?",
            "What is the dividend month of {ticker}?",
            "When is the next dividend of {ticker} paid?",
            "Tell me the dividend date of {ticker}",
        ),
        held_out=(
            "When is the dividend of {ticker} paid?",
            "In which month does {ticker} pay a dividend?",
            "Tell me when I get the {ticker} dividend",
        ),
        answer="{ticker} pays its dividend in {ticker_month}.",
        subject="ticker",
    ),
)

FOLLOW_UPS: Final = (
    FollowUp(
        "order-cancel",
        "order",
        asks=("Please cancel it", "How do I cancel it?", "And can I withdraw it?", "I want to stop it"),
        held_out=("And how do I cancel it?", "Please stop it"),
    ),
    FollowUp(
        "order-status",
        "order",
        asks=("And what is its status?", "Was it executed?", "Is it done?", "What happened to it?"),
        held_out=("And was it executed?", "What is its status?"),
    ),
    FollowUp(
        "order-price",
        "order",
        asks=("Change its price to {price} EUR", "Set it to {price} EUR", "And how do I move it to {price} EUR?"),
        held_out=("And change it to {price} EUR", "Please set its price to {price} EUR"),
    ),
    FollowUp(
        "dividend",
        "ticker",
        asks=("And when does it pay its dividend?", "When do I get the dividend?", "In which month is the dividend?"),
        held_out=("And when is its dividend paid?", "In which month do I get the dividend?"),
    ),
    FollowUp(
        "price-alert",
        "ticker",
        asks=(
            "And tell me when it reaches {price} EUR",
            "Set an alert for it at {price} EUR",
            "Alert me if it hits {price} EUR",
        ),
        held_out=("And set an alert at {price} EUR", "Tell me if it reaches {price} EUR"),
    ),
)
